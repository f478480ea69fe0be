"""The device that a command's `--device` names."""

import torch

from deq_core.experiment.config import ConfigError


def chosen_device(name: str) -> torch.device:
    """The device of that name; `auto` is CUDA where there is one, else the CPU.

    Raises:
        ConfigError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError, NotImplementedError) as error:
        expected = "auto, cpu, cuda or cuda:N where there is such a GPU"
        raise ConfigError(f"device: expected {expected}, got {name!r} ({str(error).splitlines()[0]})") from error
    return device
