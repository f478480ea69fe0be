"""Detects the layout of a folder of your own images, and checks it."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Literal

from deq_core.experiment.config import ConfigError
from deq_core.experiment.data.checks import Part, Problem
from deq_core.experiment.data.images import FileFormatError
from deq_core.experiment.data.layout import LayoutError
from deq_core.experiment.data.published import IMAGES, DataSet
from deq_core.experiment.download.fetch import Source
from deq_vision.data.sets.own import boxes, masks
from deq_vision.data.sets.own.boxes import OwnBoxes, jsons_in
from deq_vision.data.sets.own.classes import OwnClasses
from deq_vision.data.sets.own.labels import FILE
from deq_vision.data.sets.own.masks import OwnMasks
from deq_vision.data.sets.own.splits import SPLITS, Split, folder_of

Layout = Literal["classes", "masks", "boxes"]
READERS: Mapping[Layout, type[OwnClasses | OwnMasks | OwnBoxes]] = {
    "classes": OwnClasses,
    "masks": OwnMasks,
    "boxes": OwnBoxes,
}


def layout_of(root: Path) -> Layout:
    """Masks if there is labels.yaml or a folder masks, boxes if there is a JSON file, otherwise classes."""
    folder = folder_of(root, "train")
    if (root / FILE).exists() or (folder / "masks").is_dir():
        return "masks"
    return "boxes" if jsons_in(folder) else "classes"


def read(root: Path, split: Split, layout: Layout | None = None) -> OwnClasses | OwnMasks | OwnBoxes:
    """The images of a split; `layout` is by default that of `layout_of`."""
    try:
        return READERS[layout or layout_of(root)](root, split)
    except ConfigError as error:  # from labels.yaml, which is part of the data
        raise FileFormatError(str(error)) from error


def files_of(root: Path, layout: Layout) -> list[Path]:
    """All files that a training reads.

    Raises:
        LayoutError, FileFormatError: the folder has another layout.
    """
    return [path for split in SPLITS[:2] for path in read(root, split, layout).files]


def disagreements(root: Path) -> Iterator[Problem]:
    """Masks and entries that do not fit their images, and masks with unknown pixels; reads every image."""
    for split in SPLITS:
        try:
            found = read(root, split)
        except (FileFormatError, LayoutError):
            continue  # already reported as a problem
        for index in range(len(found)):
            try:
                found[index]
            except FileFormatError as error:
                yield Problem(root, str(error))


SETS: Mapping[str, DataSet] = {
    "own": DataSet(
        source=Source(
            title="your own pictures",
            page="docs/training.md",
            licence="Your own data; nothing is downloaded.",
            manual=f"a folder with one folder of pictures for each class; or {masks.LAYOUT}; or {boxes.LAYOUT}.",
        ),
        folder="",
        parts=tuple(Part("", partial(read, split=split)) for split in SPLITS),
        whole=IMAGES,
        disagreements=disagreements,
    ),
}
