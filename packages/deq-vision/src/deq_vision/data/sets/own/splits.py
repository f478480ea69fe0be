"""Splits of your own images, and the images of a folder."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from deq_core.experiment.data.layout import LayoutError
from deq_core.experiment.media.image_folder import IMAGES, UNREAD

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
FOLDERS: Mapping[Split, Sequence[str]] = {
    "train": ("train",),
    "val": ("val", "valid"),
    "test": ("test", "val", "valid"),
}
"""Possible names of a split's folder; the first that exists is used."""
EVERY = 5
"""One image in this many is held out if there are no split folders."""


def folder_of(root: Path, split: Split) -> Path:
    """The folder of a split: `root` if it has no folder train; that of val if it has no test.

    Val may be named valid, as in exports of Roboflow.
    """
    if not (root / "train").is_dir():
        return root
    return next((root / name for name in FOLDERS[split] if (root / name).is_dir()), root / "val")


def of_split(found: list[Path], root: Path, split: Split) -> list[Path]:
    """The images of `folder_of` that belong to the split: all of a split folder, else those held out or the others.

    About a fifth is held out for both val and test. The choice depends on a digest of the names, so that an image stays
    in its split when others are added.
    """
    if folder_of(root, split) != root:
        return found
    held_out = held_out_of(found)
    return [path for path in found if (path in held_out) != (split == "train")]


def held_out_of(found: list[Path]) -> set[Path]:
    """About one image in `EVERY`, by a digest of its name; of two or more images at least one, but not all."""
    order = sorted(found, key=number)
    held_out = [path for path in order if number(path) % EVERY == 0]
    return set((held_out or order[:1])[: len(order) - 1])


def number(path: Path) -> int:
    """A number from an image's name, uniformly distributed."""
    return int.from_bytes(hashlib.md5(path.name.encode(errors="surrogateescape")).digest())


def pictures(folder: Path) -> list[Path]:
    """Images in a folder, sorted by name, except hidden files.

    Raises:
        LayoutError: an image has a format that cannot be read, and would be left out.
    """
    with os.scandir(folder) as entries:
        files = sorted(Path(entry.path) for entry in entries if entry.is_file() and not entry.name.startswith("."))
    if unread := [path for path in files if path.suffix.lower() in UNREAD]:
        others = f" and {len(unread) - 1} others" if unread[1:] else ""
        raise LayoutError(
            f"{unread[0]}: expected pictures ({', '.join(IMAGES)}), got one of another kind{others}; convert it, or "
            "remove it"
        )
    return [path for path in files if path.suffix.lower() in IMAGES]


def labelled_pictures(root: Path, split: Split, folder: Path, layout: str) -> list[Path]:
    """Images of a split in `folder`, sorted by name.

    Raises:
        LayoutError: the folder does not exist or has no image for the split; `layout` describes what is expected.
    """
    if not folder.is_dir():
        raise LayoutError(f"{folder}: expected a folder of pictures, but there is none; {layout}", [folder])
    found = of_split(pictures(folder), root, split)
    if not found:
        raise LayoutError(
            f"{folder}: expected pictures ({', '.join(IMAGES)}) for {split}, got none that are not held out for "
            "another split; at least two are needed"
        )
    return found
