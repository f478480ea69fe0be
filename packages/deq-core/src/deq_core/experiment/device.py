"""The device of a command's option `--device`."""

import torch

from deq_core.experiment.config import ConfigError
from deq_core.experiment.reading import told


def chosen_device(name: str) -> torch.device:
    """The device called `name`; `auto` is CUDA if available, otherwise the CPU.

    Raises:
        ConfigError: the device does not exist.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (AssertionError, RuntimeError, NotImplementedError) as error:
        expected = "auto, cpu, cuda or cuda:N where there is such a GPU"
        raise ConfigError(f"device: expected {expected}, got {name!r} ({told(error)})") from error
    return device
