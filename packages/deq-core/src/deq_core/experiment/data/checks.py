"""What a check of a data set on disk is told of it, and what it finds."""

from collections.abc import Callable, Sized
from dataclasses import dataclass
from pathlib import Path


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


def absent(path: Path) -> Problem:
    """What is wrong with a path that does not exist."""
    return Problem(path, "a link that leads nowhere" if path.is_symlink() else "missing")
