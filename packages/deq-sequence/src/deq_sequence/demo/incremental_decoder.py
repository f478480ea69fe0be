"""Incremental decoding of tokens to text."""

import codecs
from collections.abc import Mapping

from deq_sequence.data.vocabulary import BytePairs, Vocabulary


class IncrementalDecoder:
    """Decodes tokens one by one into pieces of text whose concatenation is `vocabulary.decode` of all tokens.

    A byte pair may end within a character; the character comes with the token that completes it.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> str:
        """The text completed by `token`; may be empty."""
        if isinstance(self.vocabulary, BytePairs):
            return self._decoder.decode(bytes_of(self.vocabulary, token))
        return self.vocabulary.decode([token])

    def finish(self) -> str:
        """The remaining text: U+FFFD for an incomplete character."""
        return self._decoder.decode(b"", final=True)


def bytes_of(vocabulary: BytePairs, token: int) -> bytes:
    """The bytes of a token."""
    piece = vocabulary.tokenizer.id_to_token(token)
    if piece is None:
        raise ValueError(f"token must be from 0 to {len(vocabulary) - 1}, got {token}")
    return bytes(BYTES[letter] for letter in piece)


def _byte_letters() -> Mapping[str, int]:
    """The byte of each letter in byte-level tokens: printable bytes are spelt as themselves, the others, in order, as
    the letters from U+0100 on (Radford et al., 2019)."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + place): byte for place, byte in enumerate(others)}


BYTES = _byte_letters()
