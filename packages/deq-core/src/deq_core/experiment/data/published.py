"""What there is to know of a published data set besides its reader: said once, in the module of the reader."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from deq_core.experiment.data.checks import Part, Problem
from deq_core.experiment.data.image_headers import image_size, whole_size
from deq_core.experiment.download.fetch import Source
from deq_core.experiment.errors import FileFormatError


class Whole(Protocol):
    """Raises `FileFormatError` unless a file is whole, where it is `decoded` also what only its pixels show."""

    def __call__(self, path: Path, /, *, decoded: bool) -> object: ...


IMAGES: Mapping[str, Whole] = dict.fromkeys((".jpeg", ".jpg", ".png"), whole_size)


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A published data set."""

    source: Source
    """Title, page, licence, and how it is fetched."""
    folder: str
    """Where it lies in the folder of the data sets."""
    parts: tuple[Part, ...]
    """Its splits, each with its reader and the number of samples that the publisher states."""
    places: tuple[str, ...] = ("",)
    """Where its files are below `folder`, which sets may share."""
    whole: Mapping[str, Whole]
    """{suffix: what tells whether such a file is whole}; others are not looked at."""
    disagreements: Callable[[Path], Iterable[Problem]] = lambda root: ()
    """What whole files say against each other, such as flow of another size than its frames; of the folder of sets."""


def size_of(frame: Path) -> tuple[int, int] | None:
    """Height and width of a frame as it is stored; None where it is missing or damaged, which is said of it itself."""
    try:
        return image_size(frame)
    except (FileFormatError, FileNotFoundError):
        return None
