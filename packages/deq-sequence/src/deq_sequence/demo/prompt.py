"""Tokenisation of a user's text, where a word or character missing from the vocabulary is an error."""

import io

import numpy as np

from deq_sequence.data.corpora import CorpusError
from deq_sequence.data.vocabulary import UNKNOWN, Characters, Vocabulary, Words


class PromptError(CorpusError):
    """A vocabulary cannot encode a text; the message says what to change."""


def encode_prompt(vocabulary: Vocabulary, text: str) -> np.ndarray:
    """The tokens of `text`, (tokens,) int32, at least one.

    With words, <eos> comes only where the text has a line end, since the text is to be continued. Raises PromptError
    for a text without tokens, for bytes that are not UTF-8, and for characters or words that the vocabulary lacks,
    naming each.
    """
    if not text:
        raise PromptError("the prompt is empty: give some text to go on from, for example a line end, $'\\n'")
    if any("\ud800" <= character <= "\udfff" for character in text):  # Python's escapes of invalid bytes
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
    """Tokens for unknown text, which must not be generated."""
    match vocabulary:
        case Characters():
            return (0,)
        case Words():
            return tuple(vocabulary.numbers[word] for word in (UNKNOWN,) if word in vocabulary.numbers)
        case _:
            return ()


def _unknown(vocabulary: Vocabulary, text: str) -> str:
    """The words or characters of `text` that the vocabulary lacks, for a message; "" if there are none."""
    match vocabulary:
        case Characters():
            pieces = [character for character in text if character not in vocabulary.numbers]
        case Words():
            pieces = [word for word in text.split() if word not in vocabulary.numbers]
        case _:
            pieces = []
    return ", ".join(repr(piece) for piece in dict.fromkeys(pieces))
