"""Which of the layouts of one's own pictures a folder has, and what is wrong with it."""

import hashlib
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
from deq_core.experiment.media.image_folder import IMAGES as SUFFIXES
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
    """Masks where there are labels.yaml or a folder masks, boxes where there is a JSON file, and else classes."""
    folder = folder_of(root, "train")
    if (root / FILE).exists() or (folder / "masks").is_dir():
        return "masks"
    return "boxes" if jsons_in(folder) else "classes"


def read(root: Path, split: Split, layout: Layout | None = None) -> OwnClasses | OwnMasks | OwnBoxes:
    """The pictures of a split; `layout` is that of `layout_of` by default."""
    try:
        return READERS[layout or layout_of(root)](root, split)
    except ConfigError as error:  # of labels.yaml, which is a file of the data like others
        raise FileFormatError(str(error)) from error


def contents(root: Path, layout: Layout) -> list[tuple[str, str]]:
    """Each file that a training reads, with the bytes of a picture, or the digest of labels and boxes.

    By these one knows whether the pictures are still the same.

    Raises:
        LayoutError, FileFormatError: the folder has another layout.
    """
    files = {path.resolve() for split in SPLITS[:2] for path in read(root, split, layout).files}
    return [(str(path), bytes_of(path)) for path in sorted(files)]


def bytes_of(path: Path) -> str:
    """How many there are of a picture, which are many; of another file what they are."""
    if path.suffix.lower() in SUFFIXES:
        return str(path.stat().st_size)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def disagreements(root: Path) -> Iterator[Problem]:
    """Masks and entries that do not fit their pictures, and masks with pixels of no class: every picture is read."""
    for split in SPLITS:
        try:
            found = read(root, split)
        except (FileFormatError, LayoutError):
            continue  # of which there is a problem already
        for index in range(len(found)):
            try:
                found[index]
            except FileFormatError as error:
                yield Problem(root, str(error))


SETS: Mapping[str, DataSet] = {
    "own": DataSet(
        source=Source(
            title="pictures of one's own",
            page="docs/training.md",
            licence="Nobody publishes them.",
            manual=f"a folder has a folder of pictures for each class; or {masks.LAYOUT}; or {boxes.LAYOUT}.",
        ),
        folder="",
        parts=tuple(Part("", partial(read, split=split)) for split in SPLITS),
        whole=IMAGES,
        disagreements=disagreements,
    ),
}
