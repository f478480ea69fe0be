"""Which text a model is trained on, and what its tokens are; prepared on disk once for all models."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from deq_core.experiment.config import Kind
from deq_sequence.data import tokens
from deq_sequence.data.corpora import Corpus, read_files
from deq_sequence.data.mini import mini
from deq_sequence.data.registry import CORPORA
from deq_sequence.data.tokens import Tokens
from deq_sequence.data.vocabulary import Kind as TokenKind


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """The text that comes with the package."""

    kind: Literal["mini"] = field(default="mini", repr=False)


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published corpus, fetched before: `deq-sequence download`."""

    name: str
    """A key of `registry.CORPORA`, such as wikitext-103."""
    root: str = "datasets"
    """Folder of the corpora, as `deq-sequence download` fills it."""
    kind: Literal["published"] = field(default="published", repr=False)

    def __post_init__(self) -> None:
        if self.name not in CORPORA:
            raise ValueError(f"corpus: name must be one of {', '.join(CORPORA)}, got {self.name!r}")


@dataclass(frozen=True, kw_only=True)
class Files:
    """Texts of one's own, UTF-8."""

    train: str
    valid: str
    test: str
    kind: Literal["files"] = field(default="files", repr=False)


@dataclass(frozen=True, kw_only=True)
class Text:
    """A corpus, and what its tokens are."""

    corpus: Annotated[Embedded | Published | Files, Kind]
    tokens: TokenKind
    size: int | None = None
    """Tokens of the vocabulary at most; byte pairs need it."""
    limit: int | None = None
    """Tokens that are kept of each split; None keeps all."""

    def __post_init__(self) -> None:
        least = 256 if self.tokens == "byte_pairs" else 2
        if (self.tokens == "byte_pairs" and self.size is None) or (self.size is not None and self.size < least):
            raise ValueError(f"text: {self.tokens} need a size of at least {least} tokens, got {self.size}")
        if self.limit is not None and self.limit < 2:
            raise ValueError(f"text: limit must be at least 2 tokens, got {self.limit}")


def prepare(out: Path, text: Text) -> Tokens:
    """Learns the vocabulary of a text and writes all three splits as numbers to the folder `out`.

    Raises CorpusError where the corpus is not there.
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
            return CORPORA[name].read(Path(root))
        case Files(train=train, valid=valid, test=test):
            return read_files(Path(train), Path(valid), Path(test))
