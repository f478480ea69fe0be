"""Description of a published data set: source, parts and checks. Each is defined in the module of its reader."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from deq_core.experiment.data.checks import Part, Problem
from deq_core.experiment.data.image_headers import image_size, whole_size
from deq_core.experiment.download.fetch import Source
from deq_core.experiment.errors import FileFormatError


class Whole(Protocol):
    """Check that raises `FileFormatError` for a damaged file; with `decoded` it decodes the content as well."""

    def __call__(self, path: Path, /, *, decoded: bool) -> object: ...


IMAGES: Mapping[str, Whole] = dict.fromkeys((".jpeg", ".jpg", ".png"), whole_size)


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A published data set."""

    source: Source
    """Title, page, licence and download."""
    folder: str
    """Folder of the set, relative to the folder of all data sets."""
    parts: tuple[Part, ...]
    """Splits, each with its reader and the published number of samples."""
    places: tuple[str, ...] = ("",)
    """Subfolders of `folder` with the files of this set; several sets may share `folder`."""
    whole: Mapping[str, Whole]
    """{suffix: check of files with this suffix}; other files are not checked."""
    disagreements: Callable[[Path], Iterable[Problem]] = lambda root: ()
    """Finds contradictions between files, such as flow and frames of different size; takes the folder of all sets."""


def size_of(frame: Path) -> tuple[int, int] | None:
    """Height and width of a frame as stored; None if it is missing or damaged, which another check reports."""
    try:
        return image_size(frame)
    except (FileFormatError, FileNotFoundError):
        return None
