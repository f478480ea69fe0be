"""Checks a data set on disk: every file that should be there, and whether each one is whole."""

from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from deq_core.experiment.data.images import FileFormatError
from deq_core.experiment.data.layout import LayoutError, files_below


@dataclass(frozen=True)
class Problem:
    """Something wrong with a file or folder."""

    path: Path
    fault: str

    def __str__(self) -> str:
        return self.fault if str(self.path) in self.fault else f"{self.path}: {self.fault}"


@dataclass(frozen=True)
class Part:
    """A split or render pass of a data set."""

    place: str
    """The folder of its files, below that of the set."""
    read: Callable[[Path], Sized]
    """Its reader, which finds what is missing; called with the folder of the data sets."""
    count: int | None = None
    """How many samples the release has, where that is known."""


def check(
    root: Path,
    folder: Path,
    parts: Sequence[Part],
    whole: Mapping[str, Callable[[Path], object]],
    *,
    released: bool,
    unit: str,
    places: Sequence[Path] | None = None,
) -> list[Problem]:
    """What is wrong with a data set; empty if it is complete and every file whole.

    Args:
        root: folder of the data sets.
        folder: of the set, in it, or itself.
        parts: what it consists of.
        whole: {suffix: raises `FileFormatError` unless the file is whole}; others are not looked at.
        released: whether the numbers of samples must be those of the release, and every part be there. False for a
            miniature or a part of it, of which only what is there is checked.
        unit: what the samples are called.
        places: folders whose files are looked at; `folder` alone if None.
    """
    problems: list[Problem] = []
    present = [part for part in parts if (folder / part.place).is_dir()]
    for part in parts:
        if part not in present and (released or not present):
            problems.append(Problem(folder / part.place, "the folder is missing"))
    for part in present:
        try:
            count = len(part.read(root))
        except LayoutError as error:
            missing = [absent(path) for path in error.missing if not path.exists()]
            problems.extend(missing or [Problem(folder, str(error))])
        except FileFormatError as error:
            problems.append(Problem(folder / part.place, str(error)))
        else:
            if released and part.count is not None and count != part.count:
                fault = f"expected {part.count} {unit} as released, got {count}"
                problems.append(Problem(folder / part.place, fault))
    everything = [path for place in ([folder] if places is None else places) for path in files_below(place)]
    candidates = sorted(path for path in everything if path.suffix.lower() in whole)
    files = [path for path in candidates if path.is_file()]
    problems += [absent(path) for path in candidates if not path.exists()]
    for path in tqdm(files, desc=f"checking {folder.name}", unit="file", disable=None):
        try:
            whole[path.suffix.lower()](path)
        except (FileFormatError, OSError) as error:
            problems.append(Problem(path, str(error)))
    return list({str(problem): problem for problem in problems}.values())


def absent(path: Path) -> Problem:
    """What is wrong with a path that does not exist."""
    return Problem(path, "a link that leads nowhere" if path.is_symlink() else "missing")
