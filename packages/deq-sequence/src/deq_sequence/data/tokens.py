"""Tokenised corpora on disk, so that a large one is tokenised once."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deq_core.experiment.data.npy import LONGEST, header
from deq_core.experiment.files import output_directory
from deq_core.experiment.reading import decoding
from deq_sequence.data import vocabulary as vocabularies
from deq_sequence.data.corpora import SPLITS, Corpus, CorpusError, Split
from deq_sequence.data.vocabulary import Kind, UnknownError, Vocabulary

AGAIN = "prepare the text again with `deq-sequence download`"


@dataclass(frozen=True)
class Tokens:
    """The splits of a tokenised corpus, (N,) int32 each, and the vocabulary, learnt from the training text."""

    texts: Mapping[Split, Tensor]
    vocabulary: Vocabulary


def number(corpus: Corpus, kind: Kind, size: int | None = None) -> Tokens:
    """Learns a vocabulary from the training text and tokenises all three; see `vocabulary.learn`."""
    learnt = vocabularies.learn(kind, corpus.lines("train"), size)
    return Tokens({split: _numbered(corpus, split, learnt) for split in SPLITS}, learnt)


def write(out: Path, tokens: Tokens) -> None:
    """Writes vocabulary.json and {train,valid,test}.npy to the folder `out`, completely or not at all."""
    with output_directory(out) as partial:
        vocabularies.save(partial / "vocabulary.json", tokens.vocabulary)
        for split, text in tokens.texts.items():
            np.save(partial / f"{split}.npy", text.numpy())


def read(folder: Path) -> Tokens:
    """Reads the output of `write`. Raises CorpusError if it is missing or damaged."""
    vocabulary = vocabularies.load(folder / "vocabulary.json")
    return Tokens({split: _text(folder / f"{split}.npy", len(vocabulary)) for split in SPLITS}, vocabulary)


def check_rows(texts: Tokens, split: Split, rows: int, *, limit: int | None = None) -> Tensor:
    """A text, or its first `limit` tokens, to be read in `rows` parallel rows.

    Raises CorpusError if the rows would be shorter than two tokens.
    """
    text = texts.texts[split][:limit]
    if len(text) // rows < 2:
        raise CorpusError(
            f"{split}: {len(text)} tokens are too few for {rows} rows of at least two; use fewer (batch_size), or more "
            "text"
        )
    return text


def _numbered(corpus: Corpus, split: Split, vocabulary: Vocabulary) -> Tensor:
    try:
        return torch.from_numpy(vocabulary.encode(corpus.lines(split)))
    except UnknownError as error:
        source = corpus.texts[split]
        named = f"{source}: " if isinstance(source, Path) else ""
        raise CorpusError(
            f"{named}{error}: take it out, or give the vocabulary a size smaller than the training text's, so that it "
            "has a token for all others"
        ) from None


def _text(path: Path, vocabulary: int) -> Tensor:
    if not path.exists():
        raise CorpusError(f"{path}: no such text; {AGAIN}")
    with decoding(path, CorpusError, "an array of numbers", AGAIN):
        with path.open("rb") as file:
            found = header(file.read(LONGEST), path.stat().st_size)
        text = np.fromfile(path, found.dtype, offset=found.offset)
    numbers = len(found.shape) == 1 and text.dtype == np.int32
    if not numbers or (len(text) and not 0 <= text.min() <= text.max() < vocabulary):
        raise CorpusError(f"{path}: expected a row of int32 from 0 to {vocabulary - 1}; {AGAIN}")
    return torch.from_numpy(text)
