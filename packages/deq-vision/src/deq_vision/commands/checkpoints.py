"""Commands about checkpoints."""

from pathlib import Path
from typing import Annotated

from deq_core.experiment.commands import CHECKPOINT, Positional, finish
from deq_vision.models.build import save
from deq_vision.models.compat.convert import load_released


def convert(
    source: Annotated[Path, Positional], out: Annotated[Path, Positional, CHECKPOINT], variant: str | None = None
) -> None:
    """Writes the official checkpoint SOURCE (.pth) as OUT (.safetensors), with a config.json beside it.

    Args:
        source: the official file.
        out: where to write.
        variant: which it is where two are alike: cifar-large and cifar-large-reg differ in dropout and solver alone.
            By default it is found from names and shapes, the first of two.
    """
    model = load_released(source, variant)
    save(out, model)
    finish({"parameters": sum(parameter.numel() for parameter in model.parameters())})
