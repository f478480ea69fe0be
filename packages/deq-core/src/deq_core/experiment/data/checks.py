"""Parts of a data set to check on disk, and the problems found."""

from collections.abc import Callable, Sized
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Problem:
    """A problem with a file or folder."""

    path: Path
    fault: str

    def __str__(self) -> str:
        return self.fault if str(self.path) in self.fault else f"{self.path}: {self.fault}"


@dataclass(frozen=True)
class Part:
    """A split or render pass of a data set."""

    place: str
    """Folder of its files, relative to that of the set."""
    read: Callable[[Path], Sized]
    """Reader, called with the folder of all data sets; it detects missing files."""
    count: int | None = None
    """Number of samples in the release, if known."""


def absent(path: Path) -> Problem:
    """The problem of a path that does not exist."""
    return Problem(path, "a link that leads nowhere" if path.is_symlink() else "missing")
