"""Pictures of one's own in folders that are named as their classes."""

import hashlib
import os
from pathlib import Path
from typing import Literal

from torch.utils.data import Dataset

from deq_core.experiment.data.images import read_image
from deq_core.experiment.data.layout import LayoutError
from deq_core.experiment.media.video import IMAGES
from deq_vision.data.samples import LabelledImage

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
EVERY = 5
"""Of so many pictures of a class one is held out, where no folder says which."""


class OwnClasses(Dataset[LabelledImage]):
    """The pictures of `root`/CLASS/, or of `root`/`split`/CLASS/ where `root` has a folder train.

    Classes are numbered in the order of their names. Without folders of splits about a fifth of a class's pictures,
    by a digest of their names, is held out for both val and test, so that a picture stays where it is when others come.
    Where there is no folder test, it is val.

    Args:
        root: folder of the classes or of the splits.
        split: train, val or test.

    Raises:
        LayoutError: there are fewer than two classes, or one of them has no picture in the split, or other classes in
            another split.
    """

    def __init__(self, root: Path, split: Split = "train") -> None:
        self.classes = classes_of(root)
        folder = folder_of(root, split)
        self.images: list[tuple[int, Path]] = []
        for label, name in enumerate(self.classes):
            found = pictures(folder / name)
            if folder == root:
                held_out = held_out_of(found)
                found = [path for path in found if (path in held_out) != (split == "train")]
            if not found:
                raise LayoutError(
                    f"{folder / name}: expected pictures ({', '.join(IMAGES)}) for {split}, got none that are not held "
                    "out for another split; a class needs at least two"
                )
            self.images += [(label, path) for path in found]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> LabelledImage:
        label, path = self.images[index]
        return LabelledImage(read_image(path, upright=True), label, f"{self.classes[label]}/{path.name}")


def held_out_of(found: list[Path]) -> set[Path]:
    """About one picture of `EVERY`, by a digest of its name; of two or more at least one, and not all."""
    order = sorted(found, key=number)
    held_out = [path for path in order if number(path) % EVERY == 0]
    return set((held_out or order[:1])[: len(order) - 1])


def number(path: Path) -> int:
    """Of a picture's name, evenly spread."""
    return int.from_bytes(hashlib.md5(path.name.encode()).digest())


def classes_of(root: Path) -> list[str]:
    """The names of the classes in the order of their numbers.

    Raises:
        LayoutError: there are fewer than two, or splits have different ones.
    """
    if not root.is_dir():
        raise LayoutError(
            f"{root}: expected a folder with a folder of pictures for each class, but there is none", [root]
        )
    found = named_in(folder_of(root, "train"))
    if len(found) < 2:
        raise LayoutError(
            f"{folder_of(root, 'train')}: expected folders of at least two classes with pictures "
            f"({', '.join(IMAGES)}) in them, got {len(found)}"
        )
    for split in SPLITS:
        if (other := named_in(folder_of(root, split))) != found:
            odd = ", ".join(sorted(set(other) ^ set(found))[:3])
            raise LayoutError(f"{folder_of(root, split)}: expected the classes of train; not in both: {odd}")
    return found


def folder_of(root: Path, split: Split) -> Path:
    """Where the classes of a split are."""
    if not (root / "train").is_dir():
        return root
    return root / split if split == "train" or (root / split).is_dir() else root / "val"


def named_in(folder: Path) -> list[str]:
    """The folders that hold pictures, sorted by name."""
    if not folder.is_dir():
        raise LayoutError(f"{folder}: expected folders of classes, as there are for train, but there is none", [folder])
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and pictures(Path(entry.path)))


def pictures(folder: Path) -> list[Path]:
    """The pictures of a class, sorted by name; hidden files are none."""
    with os.scandir(folder) as entries:
        return sorted(
            Path(entry.path)
            for entry in entries
            if entry.is_file() and not entry.name.startswith(".") and Path(entry.name).suffix.lower() in IMAGES
        )
