"""Data sets on disk: folders that must exist, frames that follow each other, files of one size."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from deq_core.experiment.images import FileFormatError, damaged

Tables = TypeVar("Tables")


class LayoutError(ValueError):
    """A data set on disk is missing, incomplete, or not laid out as released."""

    def __init__(self, message: str, missing: Iterable[Path] = ()) -> None:
        super().__init__(message)
        self.missing = tuple(missing)
        """Every missing file or folder, of which the message names the first ones."""


def files_in(folder: Path, pattern: str, *, hint: str) -> list[Path]:
    """The files of a folder that match, sorted by name.

    Raises:
        LayoutError: the folder is missing or holds none; `hint` says what to put there.
    """
    found = sorted(folder.glob(pattern)) if folder.is_dir() else []
    if not found:
        state = "holds none" if folder.is_dir() else "does not exist"
        raise LayoutError(f"{folder}: expected files {pattern}, but the folder {state}; {hint}", [folder])
    return found


def by_folder(paths: list[Path]) -> dict[Path, list[Path]]:
    """The paths of each folder, in the order they came."""
    folders: dict[Path, list[Path]] = {}
    for path in paths:
        folders.setdefault(path.parent, []).append(path)
    return folders


def number(path: Path) -> int:
    """The last number in the name of a file.

    Raises:
        LayoutError: there is none.
    """
    digits = re.findall(r"\d+", path.stem)
    if not digits:
        raise LayoutError(f"{path}: expected a name with the number of a frame")
    return int(digits[-1])


def following(frames: list[Path]) -> list[tuple[Path, Path]]:
    """The frames of one video, sorted by name, as pairs of frames that follow each other.

    Raises:
        LayoutError: a number between the first and the last is missing; pairing what is left would skip it.
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
        LayoutError: some are not; the first ones are named.
    """
    missing = [path for path in paths if not path.is_file()]
    if missing:
        names = ", ".join(str(path) for path in missing[:3])
        raise LayoutError(f"{len(missing)} files are missing ({because}): {names}; unpack the data set again", missing)


def require_size(path: Path, values: Tensor, image: Tensor, *, what: str = "the size of its image") -> None:
    """Checks that what `path` held is as high and wide as an image.

    Raises:
        FileFormatError: it is not.
    """
    if values.shape[-2:] != image.shape[-2:]:
        raise other_size(path, values.shape[-2:], image.shape[-2:], what=what)


def other_size(path: Path, size: Sequence[int], expected: Sequence[int], *, what: str) -> FileFormatError:
    """The error for a file of another height and width than expected."""
    (h, w), (height, width) = size, expected
    return damaged(path, f"{width}x{height} pixels, {what}", f"{w}x{h}")


def all_there(tables: Tables, results: Path, pipeline: str) -> Tables:
    """The same tables, whose folders all are there.

    Args:
        tables: folders as a figure or a report reads them: a data class, a mapping or a sequence, nested.
        results: the folder that they are below.
        pipeline: what makes them.

    Raises:
        LayoutError: a stage before this one has not left its folder.
    """
    wanted = list(dict.fromkeys(_folders(tables)))
    if missing := [folder for folder in wanted if not folder.is_dir()]:
        raise LayoutError(
            f"{results}: expected the results of every stage before this one, but {len(missing)} of {len(wanted)} "
            f"are missing, such as {missing[0].relative_to(results)}; `snakemake {pipeline}` makes them",
            missing,
        )
    return tables


def figures_below(results: Path, pipeline: str) -> list[str]:
    """Names of the figures of a pipeline, sorted.

    Raises:
        LayoutError: none were drawn.
    """
    folder = results / "figures"
    if not folder.is_dir():
        raise LayoutError(f"{folder}: expected the figures of the plot before; `snakemake {pipeline}` draws them")
    return sorted(path.name for path in folder.iterdir())


def _folders(tables: Any) -> Iterator[Path]:
    if isinstance(tables, Path):
        yield tables
    elif is_dataclass(tables):
        yield from _folders([getattr(tables, each.name) for each in fields(tables)])
    elif isinstance(tables, Mapping):
        yield from _folders(list(tables.values()))
    elif isinstance(tables, Sequence) and not isinstance(tables, str):
        for each in tables:
            yield from _folders(each)
