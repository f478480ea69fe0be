"""Texts for training, validation and test: WikiText in its published layout, files of one's own."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

Split = Literal["train", "valid", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
WIKITEXT = {"wikitext-2": 36_718, "wikitext-103": 1_801_350}
"""Lines of the training text of each published corpus; validation and test have the same in both."""


class CorpusError(ValueError):
    """A text that is missing, damaged or not what it should be; the message names the file."""


@dataclass(frozen=True)
class Corpus:
    """Three texts, each a string or the file that holds it (UTF-8)."""

    texts: Mapping[Split, str | Path]

    def lines(self, split: Split) -> Iterator[str]:
        """The lines of a text with their ends, read as they are asked for."""
        source = self.texts[split]
        with io.StringIO(source) if isinstance(source, str) else _opened(source) as file:
            yield from file


def read_wikitext(root: Path, name: str) -> Corpus:
    """WikiText-2 or WikiText-103 (Merity et al., ICLR 2017) as unpacked below `root`.

    name   "wikitext-2" or "wikitext-103"; the files are root/name/wiki.{train,valid,test}.tokens

    Raises CorpusError where they are not.
    """
    if name not in WIKITEXT:
        raise ValueError(f"name must be one of {', '.join(WIKITEXT)}, got {name!r}")
    return read_files(*(root / name / f"wiki.{split}.tokens" for split in SPLITS))


def read_files(train: Path, valid: Path, test: Path) -> Corpus:
    """A corpus of one's own files, UTF-8 text. Raises CorpusError where one is missing."""
    paths: dict[Split, Path] = {"train": train, "valid": valid, "test": test}
    if missing := [f"{path} ({split})" for split, path in paths.items() if not path.is_file()]:
        raise CorpusError(f"no such text: {', '.join(missing)}; see `deq-sequence fetch` for the published ones")
    return Corpus({**paths})


def check_wikitext(root: Path, name: str, *, released: bool = True) -> list[str]:
    """What is missing or wrong in WikiText below `root`; with `released`, also whether a text is cut short."""
    try:
        corpus = read_wikitext(root, name)
    except CorpusError as error:
        return [str(error)]
    expected: dict[Split, int] = {"train": WIKITEXT[name], "valid": 3_760, "test": 4_358}
    problems = []
    for split in SPLITS if released else ():
        try:
            lines = sum(1 for _ in corpus.lines(split))
        except CorpusError as error:
            problems.append(str(error))
            continue
        if lines != expected[split]:
            problems.append(f"{corpus.texts[split]}: expected {expected[split]} lines, got {lines}; fetch it again")
    return problems


@contextmanager
def _opened(path: Path) -> Iterator[io.TextIOBase]:
    try:
        with path.open(encoding="utf-8", newline="\n") as file:
            yield file
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}: not UTF-8 text ({error}); convert it first") from error
    except OSError as error:
        raise CorpusError(f"{path}: cannot be read: {error.strerror or error}") from error
