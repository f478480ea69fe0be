"""Layout of data sets on disk: required files, consecutive frames, matching sizes."""

import os
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from torch import Tensor

from deq_core.experiment.errors import FileFormatError, damaged
from deq_core.experiment.errors import LayoutError as LayoutError


def files_in(folder: Path, pattern: str, *, hint: str) -> list[Path]:
    """The files of a folder that match `pattern`, sorted by name.

    Raises:
        LayoutError: the folder is missing or has no such file; `hint` says what to put there.
    """
    found = sorted(folder.glob(pattern)) if folder.is_dir() else []
    if not found:
        state = "holds none" if folder.is_dir() else "does not exist"
        raise LayoutError(f"{folder}: expected files {pattern}, but the folder {state}; {hint}", [folder])
    return found


def files_below(folder: Path) -> list[Path]:
    """All files below a folder, sorted, including broken links.

    Unlike `Path.rglob`, this follows links to folders, since large sets span several disks. Cycles are not followed.
    """
    found: list[Path] = []
    for place, folders, names in os.walk(folder, followlinks=True):
        here = Path(place)
        above = {each.resolve() for each in (here, *here.parents)}
        folders[:] = [name for name in folders if (here / name).resolve() not in above]
        found += [here / name for name in names]
    return sorted(found)


def by_folder(paths: list[Path]) -> dict[Path, list[Path]]:
    """Paths by folder, in their given order."""
    folders: dict[Path, list[Path]] = {}
    for path in paths:
        folders.setdefault(path.parent, []).append(path)
    return folders


def number(path: Path) -> int:
    """The last number in a file's name.

    Raises:
        LayoutError: the name has no number.
    """
    digits = re.findall(r"\d+", path.stem)
    if not digits:
        raise LayoutError(f"{path}: expected a name with the number of a frame; rename it, or move it away")
    return int(digits[-1])


def following(frames: list[Path]) -> list[tuple[Path, Path]]:
    """Pairs of consecutive frames of one video, whose `frames` are sorted by name.

    Raises:
        LayoutError: a frame between the first and the last is missing.
    """
    for first, second in pairwise(frames):
        if number(second) != number(first) + 1:
            raise LayoutError(
                f"{second}: expected the frame after {first.name}, number {number(first) + 1}, which is missing; "
                "unpack the data set again"
            )
    return list(pairwise(frames))


def require(paths: list[Path], *, because: str) -> None:
    """Checks that every path is a file.

    Raises:
        LayoutError: files are missing; the message names the first ones.
    """
    missing = [path for path in paths if not path.is_file()]
    if missing:
        names = ", ".join(str(path) for path in missing[:3])
        raise LayoutError(f"{len(missing)} files are missing ({because}): {names}; unpack the data set again", missing)


def require_size(path: Path, values: Tensor, image: Tensor, *, what: str = "the size of its image") -> None:
    """Checks that `values`, read from `path`, have the height and width of `image`.

    Raises:
        FileFormatError: the sizes differ.
    """
    if values.shape[-2:] != image.shape[-2:]:
        raise other_size(path, values.shape[-2:], image.shape[-2:], what=what)


def other_size(path: Path, size: Sequence[int], expected: Sequence[int], *, what: str) -> FileFormatError:
    """The error for a file of unexpected height and width."""
    (h, w), (height, width) = size, expected
    return damaged(path, f"{width}x{height} pixels, {what}", f"{w}x{h}")
