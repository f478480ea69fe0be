"""Which of one's own pictures are trained on and which are held out, and the pictures of a folder."""

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
"""What the folder of a split may be called; the first one that is there is it."""
EVERY = 5
"""Of so many pictures one is held out, where no folder says which."""


def folder_of(root: Path, split: Split) -> Path:
    """Where the pictures of a split are: where `root` has no folder train, `root`; where it has no test, val.

    Val may be called valid, as Roboflow calls it.
    """
    if not (root / "train").is_dir():
        return root
    return next((root / name for name in FOLDERS[split] if (root / name).is_dir()), root / "val")


def of_split(found: list[Path], root: Path, split: Split) -> list[Path]:
    """Those pictures of `folder_of` that are of the split: all of a folder of its own, else those held out or not.

    About a fifth, by a digest of their names, is held out for both val and test, so that a picture stays where it is
    when others come.
    """
    if folder_of(root, split) != root:
        return found
    held_out = held_out_of(found)
    return [path for path in found if (path in held_out) != (split == "train")]


def held_out_of(found: list[Path]) -> set[Path]:
    """About one picture of `EVERY`, by a digest of its name; of two or more at least one, and not all."""
    order = sorted(found, key=number)
    held_out = [path for path in order if number(path) % EVERY == 0]
    return set((held_out or order[:1])[: len(order) - 1])


def number(path: Path) -> int:
    """Of a picture's name, evenly spread."""
    return int.from_bytes(hashlib.md5(path.name.encode(errors="surrogateescape")).digest())


def pictures(folder: Path) -> list[Path]:
    """The pictures of a folder, sorted by name; hidden files are none.

    Raises:
        LayoutError: one is of a kind that is not read, and would be left out.
    """
    with os.scandir(folder) as entries:
        files = sorted(Path(entry.path) for entry in entries if entry.is_file() and not entry.name.startswith("."))
    if unread := [path for path in files if path.suffix.lower() in UNREAD]:
        others = f" and {len(unread) - 1} others" if unread[1:] else ""
        raise LayoutError(
            f"{unread[0]}: expected pictures ({', '.join(IMAGES)}), got one of another kind{others}; convert it, or "
            "take it away"
        )
    return [path for path in files if path.suffix.lower() in IMAGES]


def labelled_pictures(root: Path, split: Split, folder: Path, layout: str) -> list[Path]:
    """The pictures of a split in `folder`, sorted by name.

    Raises:
        LayoutError: there is no such folder or no picture for the split; `layout` says what is expected.
    """
    if not folder.is_dir():
        raise LayoutError(f"{folder}: expected a folder of pictures, but there is none; {layout}", [folder])
    found = of_split(pictures(folder), root, split)
    if not found:
        raise LayoutError(
            f"{folder}: expected pictures ({', '.join(IMAGES)}) for {split}, got none that are not held out for "
            "another split; it takes at least two"
        )
    return found
