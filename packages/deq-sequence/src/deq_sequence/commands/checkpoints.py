"""Commands for checkpoints."""

from pathlib import Path
from typing import Annotated

from deq_core.experiment.commands import CHECKPOINT, Positional, finish
from deq_sequence.networks import load, save


def convert(
    source: Annotated[Path, Positional], out: Annotated[Path, Positional, CHECKPOINT], variant: str = "wt103"
) -> None:
    """Writes the network in the released file SOURCE to OUT (.safetensors), and what it is to config.json beside it.

    Args:
        source: the released file.
        out: where to write.
        variant: the released network that it is of, which names and shapes do not tell: wt103, wt103-reg or
            wt103-preln-reg.
    """
    model = load(source, variant=variant)
    save(out, model)
    finish({"parameters": sum(parameter.numel() for parameter in model.parameters())})
