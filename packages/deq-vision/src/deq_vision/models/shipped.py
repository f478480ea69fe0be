"""Checkpoints that come with the package; each has its CARD.md."""

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Literal

SHIPPED: Mapping[str, str] = {"digits": "digits", "street": "street", "detect": "detect"}
"""Name to folder in `FOLDER`, which has model.safetensors and config.json. A folder of one's own of the same name is
`./digits`."""

FOLDER = Path(str(resources.files("deq_vision"))) / "checkpoints"
"""Where the files lie: wheels are unpacked when they are installed."""

SIDES: Mapping[str, int] = {"street": 128, "detect": 128}
"""Longer side of the images that they were trained on, pixels; a classifier sees the middle of an image."""

_OF_TASK = {"classify": "digits", "segment": "street", "detect": "detect"}


def chosen(
    checkpoint: str | None, task: Literal["classify", "segment", "detect"] | None, side: int | None
) -> tuple[str, int | None]:
    """The checkpoint that was asked for, or the one that ships for a task (by default to segment), and its side."""
    checkpoint = checkpoint or _OF_TASK[task or "segment"]
    return checkpoint, SIDES.get(checkpoint) if side is None else side
