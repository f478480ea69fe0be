"""Commands for checkpoints."""

from pathlib import Path
from typing import Annotated

from deq_core.experiment.commands import CHECKPOINT, Positional, finish
from deq_sequence.networks import load, save


def convert(
    source: Annotated[Path, Positional], out: Annotated[Path, Positional, CHECKPOINT], variant: str = "wt103"
) -> None:
    """Converts the released file SOURCE to OUT (.safetensors), with a config.json beside it.

    Args:
        source: released file.
        out: file to write.
        variant: the network's name, which names and shapes of tensors do not tell: wt103, wt103-reg or wt103-preln-reg.
    """
    model = load(source, variant=variant)
    save(out, model)
    finish({"parameters": sum(parameter.numel() for parameter in model.parameters())})
