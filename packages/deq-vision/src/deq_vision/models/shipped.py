"""Checkpoints in the package; each has a CARD.md."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

SHIPPED: dict[str, Path] = {
    name: Path(__file__).parents[1] / "checkpoints" / name for name in ("digits", "street", "detect")
}
"""Folders with model.safetensors and config.json by name. Write `./digits` for your own folder of that name."""

SIDES: Mapping[str, int] = {"street": 128, "detect": 128}
"""Longer side of the training images, pixels; classifiers crop the middle of an image instead."""

_OF_TASK = {"classify": "digits", "segment": "street", "detect": "detect"}


def chosen(
    checkpoint: str | None, task: Literal["classify", "segment", "detect"] | None, side: int | None
) -> tuple[str, int | None]:
    """The given checkpoint, or else the shipped one of the task (by default segmentation), and its image side."""
    checkpoint = checkpoint or _OF_TASK[task or "segment"]
    return checkpoint, SIDES.get(checkpoint) if side is None else side
