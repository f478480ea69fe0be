"""Which of the layouts of one's own pictures a folder has."""

from pathlib import Path
from typing import Literal

from deq_vision.data.sets.own.boxes import jsons_in
from deq_vision.data.sets.own.labels import FILE
from deq_vision.data.sets.own.splits import folder_of

Layout = Literal["classes", "masks", "boxes"]


def layout_of(root: Path) -> Layout:
    """Masks where there are labels.yaml or a folder masks, boxes where there is a JSON file, and else classes."""
    folder = folder_of(root, "train")
    if (root / FILE).exists() or (folder / "masks").is_dir():
        return "masks"
    return "boxes" if jsons_in(folder) else "classes"
