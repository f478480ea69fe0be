"""Texts with their tokenisation, prepared on disk once for all models."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import torch
from torch import Tensor

from deq_core.experiment.config import Kind
from deq_sequence.data import tokens
from deq_sequence.data.corpora import Corpus, CorpusError, read_files
from deq_sequence.data.mini import mini
from deq_sequence.data.registry import REGISTRY
from deq_sequence.data.tokens import Tokens
from deq_sequence.data.vocabulary import Kind as TokenKind
from deq_sequence.data.vocabulary import UnknownError, Vocabulary, learn
from deq_sequence.data.wikitext import read_wikitext


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """The text embedded in the package."""

    kind: Literal["mini"] = field(default="mini", repr=False)


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published corpus, downloaded by `deq-sequence download`."""

    name: str
    """Name in `registry.REGISTRY`, such as wikitext-103."""
    root: str = "datasets"
    """Folder of the corpora, the OUT of `deq-sequence download`."""
    kind: Literal["published"] = field(default="published", repr=False)

    def __post_init__(self) -> None:
        if self.name not in REGISTRY.sets:
            raise ValueError(f"corpus: name must be one of {', '.join(REGISTRY.sets)}, got {self.name!r}")


@dataclass(frozen=True, kw_only=True)
class Files:
    """Your own texts, UTF-8."""

    train: str
    valid: str
    test: str
    kind: Literal["files"] = field(default="files", repr=False)


@dataclass(frozen=True, kw_only=True)
class Text:
    """A corpus with its tokenisation."""

    corpus: Annotated[Embedded | Published | Files, Kind]
    tokens: TokenKind
    size: int | None = None
    """Maximum size of the vocabulary; required for byte pairs."""
    limit: int | None = None
    """Maximum number of tokens of each split; None keeps all."""

    def __post_init__(self) -> None:
        least = 256 if self.tokens == "byte_pairs" else 2
        if (self.tokens == "byte_pairs" and self.size is None) or (self.size is not None and self.size < least):
            raise ValueError(f"text: {self.tokens} need a size of at least {least} tokens, got {self.size}")
        if self.limit is not None and self.limit < 2:
            raise ValueError(f"text: limit must be at least 2 tokens, got {self.limit}")


@dataclass(frozen=True, kw_only=True)
class TokenChoice:
    """The tokenisation of a text."""

    kind: TokenKind = "byte_pairs"
    size: int | None = 768
    """Maximum size of the vocabulary; required for byte pairs, for others None takes all tokens."""

    def __post_init__(self) -> None:
        Text(corpus=Embedded(), tokens=self.kind, size=self.size)

    def of_kind(self, kind: TokenKind) -> "TokenChoice":
        """This choice if it is of the kind, else the default for the kind: all tokens, or 768 byte pairs."""
        return self if kind == self.kind else TokenChoice(kind=kind, size=768 if kind == "byte_pairs" else None)


def of_file(path: Path, choice: TokenChoice, known: Vocabulary | None = None) -> Tokens:
    """Tokenises a file: nine tenths of its tokens for training, the rest for validation.

    Args:
        path: UTF-8 file.
        choice: tokenisation; the vocabulary is learnt from the whole file.
        known: vocabulary to use instead.

    Raises:
        CorpusError: the file is not text, or the known vocabulary lacks a part of it, which the message names.
    """
    vocabulary = learn(choice.kind, lines_of(path), choice.size) if known is None else known
    whole = numbered(path, vocabulary)
    cut = len(whole) * 9 // 10
    return Tokens({"train": whole[:cut], "valid": whole[cut:]}, vocabulary)


def numbered(path: Path, vocabulary: Vocabulary) -> Tensor:
    """The tokens of a file, (N,) int32.

    Raises:
        CorpusError: the file is not text, or the vocabulary lacks a part of it, which the message names.
    """
    try:
        return torch.from_numpy(vocabulary.encode(lines_of(path)))
    except UnknownError as error:
        raise CorpusError(
            f"{path}: read with the network's vocabulary: {error}; take it out, or choose a network of byte pairs, "
            "such as default, which reads any text"
        ) from None


def lines_of(path: Path) -> list[str]:
    """The lines of a file, at least one, with their line ends."""
    lines = list(Corpus({"train": path}).lines("train"))
    if not lines:
        raise CorpusError(f"{path}: empty; name a file with a text in it")
    return lines


def prepare(out: Path, text: Text) -> Tokens:
    """Learns the vocabulary of a text and writes the tokens of all three splits to the folder `out`.

    Raises CorpusError if the corpus is missing.
    """
    numbered = tokens.number(read(text), text.tokens, text.size)
    kept = Tokens({split: part[: text.limit] for split, part in numbered.texts.items()}, numbered.vocabulary)
    tokens.write(out, kept)
    return kept


def read(text: Text) -> Corpus:
    """The corpus of a text."""
    match text.corpus:
        case Embedded():
            return mini()
        case Published(name=name, root=root):
            return read_wikitext(Path(root), name)
        case Files(train=train, valid=valid, test=test):
            return read_files(Path(train), Path(valid), Path(test))
