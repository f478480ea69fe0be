"""Commands about checkpoints."""

from pathlib import Path
from typing import Annotated

from deq_core.experiment.commands import CHECKPOINT, Positional, default, finish
from deq_vision.models.build import save
from deq_vision.models.compat.convert import load_released


def convert(
    source: Annotated[Path, Positional],
    out: Annotated[Path, Positional, CHECKPOINT],
    variant: Annotated[str | None, default("the first that fits")] = None,
) -> None:
    """Converts the official checkpoint SOURCE (.pth) to OUT (.safetensors), with a config.json beside it.

    Args:
        source: official file.
        out: file to write.
        variant: the network's name, where names and shapes of tensors do not tell: cifar-large and cifar-large-reg
            differ only in dropout and solver.
    """
    model = load_released(source, variant)
    save(out, model)
    finish({"parameters": sum(parameter.numel() for parameter in model.parameters())})
