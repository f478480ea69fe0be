"""Texts for training, validation and test, in UTF-8 files."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from deq_core.experiment.errors import FileFormatError

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


class CorpusError(FileFormatError):
    """A text is missing, damaged or invalid; the message names the file."""


@dataclass(frozen=True)
class Corpus:
    """Three texts, each a string or the file that holds it (UTF-8)."""

    texts: Mapping[Split, str | Path]

    def lines(self, split: Split) -> Iterator[str]:
        """The lines of a text with their line ends, read lazily."""
        source = self.texts[split]
        with io.StringIO(source) if isinstance(source, str) else _opened(source) as file:
            yield from file


def read_files(train: Path, valid: Path, test: Path) -> Corpus:
    """The corpus in three UTF-8 files. Raises CorpusError if one is missing."""
    paths: dict[Split, Path] = {"train": train, "valid": valid, "test": test}
    if missing := [f"{path} ({split})" for split, path in paths.items() if not path.is_file()]:
        raise CorpusError(f"no such text: {', '.join(missing)}; see `deq-sequence download` for the published ones")
    return Corpus({**paths})


@contextmanager
def _opened(path: Path) -> Iterator[io.TextIOBase]:
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            yield file
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}: not UTF-8 text ({error}); convert it first") from error
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read: {error.strerror or error}") from error
