"""Tokens as text while they come."""

import codecs
from collections.abc import Mapping

from deq_sequence.data.vocabulary import BytePairs, Vocabulary


class IncrementalDecoder:
    """Turns tokens, one after another, into pieces of text that together are what `vocabulary.decode` gives for all.

    A byte pair may end within a character; its piece comes with the token that completes the character.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        """The text that is certain now that `token` is there; may be empty."""
        if isinstance(self.vocabulary, BytePairs):
            return self._decoder.decode(bytes_of(self.vocabulary, token))
        return self.vocabulary.decode([token])

    def finish(self) -> str:
        """What is left: U+FFFD for a character that was never completed."""
        return self._decoder.decode(b"", final=True)


def bytes_of(vocabulary: BytePairs, token: int) -> bytes:
    """The bytes that a token stands for."""
    piece = vocabulary.tokenizer.id_to_token(token)
    if piece is None:
        raise ValueError(f"token must be from 0 to {len(vocabulary) - 1}, got {token}")
    return bytes(BYTES[letter] for letter in piece)


def _byte_letters() -> Mapping[str, int]:
    """The byte of each letter that byte-level tokens are spelt with: printable bytes are themselves, the others, in
    order, the letters from U+0100 on (Radford et al., 2019)."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + place): byte for place, byte in enumerate(others)}


BYTES = _byte_letters()
