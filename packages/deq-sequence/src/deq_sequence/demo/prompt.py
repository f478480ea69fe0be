"""A user's text as tokens: what a vocabulary does not have is an error, not an unknown token."""

import io

import numpy as np

from deq_sequence.data.corpora import CorpusError
from deq_sequence.data.vocabulary import UNKNOWN, Characters, Vocabulary, Words


class PromptError(CorpusError):
    """A text that cannot be read with a vocabulary; the message says what to change."""


def encode_prompt(vocabulary: Vocabulary, text: str) -> np.ndarray:
    """The tokens of `text`, (tokens,) int32, at least one.

    Words have an <eos> where the text has a line end, and only there: the text goes on. Raises PromptError for a text
    without tokens, and where the vocabulary lacks a character or word of it, naming each. Byte pairs lack none, but
    bytes that are no text are refused.
    """
    if not text:
        raise PromptError("the prompt is empty: give some text to go on from, for example a line end, $'\\n'")
    if any("\ud800" <= character <= "\udfff" for character in text):  # what Python makes of such bytes
        raise PromptError(f"the prompt {text!r} is not UTF-8; write it in that encoding")
    if unknown := _unknown(vocabulary, text):
        raise PromptError(f"the model's vocabulary of {len(vocabulary)} tokens lacks {unknown}; leave them out")
    tokens = vocabulary.encode(io.StringIO(text))
    if isinstance(vocabulary, Words) and not text.endswith("\n"):
        tokens = tokens[:-1]
    if not len(tokens):
        raise PromptError(f"the prompt {text!r} has no words; give some")
    return tokens


def unknown_tokens(vocabulary: Vocabulary) -> tuple[int, ...]:
    """Tokens that stand for text that the vocabulary does not have: nothing to write."""
    match vocabulary:
        case Characters():
            return (0,)
        case Words():
            return tuple(vocabulary.numbers[word] for word in (UNKNOWN,) if word in vocabulary.numbers)
        case _:
            return ()


def _unknown(vocabulary: Vocabulary, text: str) -> str:
    """The pieces of `text` that are not in the vocabulary, for a message; "" where there are none."""
    match vocabulary:
        case Characters():
            pieces = [character for character in text if character not in vocabulary.numbers]
        case Words():
            pieces = [word for word in text.split() if word not in vocabulary.numbers]
        case _:
            pieces = []
    return ", ".join(repr(piece) for piece in dict.fromkeys(pieces))
