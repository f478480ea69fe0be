"""Tokenisation of texts into words, characters or byte pairs."""

import json
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from deq_core.experiment.files import write_json
from deq_core.experiment.reading import decoding, read_bytes
from deq_sequence.data.corpora import CorpusError

Kind = Literal["words", "characters", "byte_pairs"]
END_OF_LINE = "<eos>"
UNKNOWN = "<unk>"


class UnknownError(CorpusError):
    """A text has a word or character that a vocabulary lacks; the message names it and its line."""


class Vocabulary(Protocol):
    """Maps text to tokens and back; frequent words or characters have small numbers."""

    def __len__(self) -> int:
        """Number of distinct tokens."""
        ...

    def encode(self, lines: Iterable[str]) -> np.ndarray:
        """The tokens, (tokens,) int32, of a text given by its lines with line ends.

        Raises UnknownError if the vocabulary lacks a part of the text.
        """
        ...

    def decode(self, tokens: Iterable[int]) -> str:
        """The text of some tokens."""
        ...

    def state(self) -> dict[str, Any]:
        """The vocabulary as a JSON object, for `restore`."""
        ...


def learn(kind: Kind, lines: Iterable[str], size: int | None = None) -> Vocabulary:
    """Learns the vocabulary of a training text.

    Args:
        size: maximum number of tokens, including special ones; the most frequent are kept. Required for byte pairs;
            None takes all words or characters
    """
    match kind:
        case "words":
            return Words.learn(lines, size)
        case "characters":
            return Characters.learn(lines, size)
        case "byte_pairs":
            if size is None:
                raise ValueError("byte_pairs need a size: how many tokens to learn")
            return BytePairs.learn(lines, size)


class Words:
    """Words separated by whitespace, and <eos> at the end of every line, as the release reads WikiText.

    <eos> comes first, then words by decreasing frequency, ties in the order of the text.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self.words = list(words)
        self.numbers = {word: number for number, word in enumerate(self.words)}

    @classmethod
    def learn(cls, lines: Iterable[str], size: int | None = None) -> "Words":
        counts = Counter(word for line in lines for word in line.split())
        counts.pop(END_OF_LINE, None)
        words = [END_OF_LINE, *(word for word, _ in counts.most_common())]
        if size is not None and len(words) > size:
            words = words[:size] if UNKNOWN in words[:size] else [*words[: size - 1], UNKNOWN]
        return cls(words)

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, lines: Iterable[str]) -> np.ndarray:
        tokens, end, unknown = array("i"), self.numbers[END_OF_LINE], self.numbers.get(UNKNOWN)
        for number, line in enumerate(lines, start=1):
            for word in line.split():
                token = self.numbers.get(word, unknown)
                if token is None:
                    raise UnknownError(
                        f"line {number} has {word!r}, which is not among the {len(self)} words of the training text, "
                        f"nor is {UNKNOWN}"
                    )
                tokens.append(token)
            tokens.append(end)
        return np.frombuffer(tokens, dtype=np.int32).copy() if tokens else np.zeros(0, dtype=np.int32)

    def decode(self, tokens: Iterable[int]) -> str:
        words = (self.words[token] for token in tokens)
        return "".join("\n" if word == END_OF_LINE else f" {word}" for word in words)

    def state(self) -> dict[str, Any]:
        return {"kind": "words", "words": self.words}


class Characters:
    """Single characters, line ends included.

    If the training text has more characters than the vocabulary may hold, token 0 stands for all others. Otherwise a
    character that the training text lacks is an error.
    """

    def __init__(self, characters: str, *, others: bool = False) -> None:
        self.characters = characters
        self.others = others
        self.numbers = {character: number for number, character in enumerate(characters, start=1)}

    @classmethod
    def learn(cls, lines: Iterable[str], size: int | None = None) -> "Characters":
        counts: Counter[str] = Counter()
        for line in lines:
            counts.update(line)
        ordered = sorted(counts, key=lambda character: (-counts[character], character))
        kept = ordered if size is None else ordered[: size - 1]
        return cls("".join(kept), others=len(kept) < len(ordered))

    def __len__(self) -> int:
        return len(self.characters) + 1

    def encode(self, lines: Iterable[str]) -> np.ndarray:
        tokens = array("i")
        for number, line in enumerate(lines, start=1):
            found = [self.numbers.get(character, 0) for character in line]
            if not self.others and 0 in found:
                raise UnknownError(
                    f"line {number} has {line[found.index(0)]!r}, which is not among the {len(self.characters)} "
                    "characters of the training text"
                )
            tokens.extend(found)
        return np.frombuffer(tokens, dtype=np.int32).copy() if tokens else np.zeros(0, dtype=np.int32)

    def decode(self, tokens: Iterable[int]) -> str:
        return "".join("\ufffd" if token == 0 else self.characters[token - 1] for token in tokens)

    def state(self) -> dict[str, Any]:
        others = {"others": True} if self.others else {}
        return {"kind": "characters", "characters": self.characters, **others}


class BytePairs:
    """Byte pair encoding (Sennrich et al., ACL 2016) of bytes within words, by the `tokenizers` library.

    Any text can be encoded, and decoding restores it exactly.
    """

    def __init__(self, serialized: str) -> None:
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_str(serialized)

    @classmethod
    def learn(cls, lines: Iterable[str], size: int) -> "BytePairs":
        from tokenizers import pre_tokenizers, trainers

        alphabet = pre_tokenizers.ByteLevel.alphabet()
        if size < len(alphabet):
            raise ValueError(f"size must be at least {len(alphabet)}, one token a byte, got {size}")
        tokenizer = empty_tokenizer()
        trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=sorted(alphabet), show_progress=False)
        tokenizer.train_from_iterator(lines, trainer)
        return cls(tokenizer.to_str())

    def __len__(self) -> int:
        return self.tokenizer.get_vocab_size()

    def encode(self, lines: Iterable[str]) -> np.ndarray:
        tokens = array("i")
        for line in lines:
            tokens.extend(self.tokenizer.encode(line).ids)
        return np.frombuffer(tokens, dtype=np.int32).copy() if tokens else np.zeros(0, dtype=np.int32)

    def decode(self, tokens: Iterable[int]) -> str:
        return self.tokenizer.decode(list(tokens))

    def state(self) -> dict[str, Any]:
        return {"kind": "byte_pairs", "tokenizer": json.loads(self.tokenizer.to_str())}


def empty_tokenizer() -> Any:
    """A tokenizer of the `tokenizers` library for byte pairs within words, untrained."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def save(path: Path, vocabulary: Vocabulary) -> None:
    """Writes a vocabulary as JSON."""
    write_json(path, vocabulary.state())


def load(path: Path) -> Vocabulary:
    """Reads the vocabulary that `save` wrote to `path`.

    Raises CorpusError if there is none.
    """
    data = read_bytes(path, CorpusError, absent="no such vocabulary; `deq-sequence download` prepares texts")
    with decoding(path, CorpusError, "a vocabulary", "make it again"):
        return restore(json.loads(data))


def restore(state: Mapping[str, Any]) -> Vocabulary:
    """Builds the vocabulary with this `state`.

    Raises ValueError, KeyError or an error of the `tokenizers` library if the state is invalid.
    """
    match state["kind"]:
        case "words":
            words = state["words"]
            if not isinstance(words, list) or any(
                not isinstance(word, str) or word.split() != [word] for word in words
            ):
                raise ValueError("its words must be texts without blanks")
            require_distinct(words)
            if END_OF_LINE not in words:
                raise ValueError(f"its words must have {END_OF_LINE} among them")
            return Words(words)
        case "characters":
            characters, others = state["characters"], state.get("others", False)
            if not isinstance(characters, str) or not isinstance(others, bool):
                raise ValueError("its characters must be a text, and others true or false")
            require_distinct(characters)
            return Characters(characters, others=others)
        case "byte_pairs":
            numbers = state["tokenizer"]["model"]["vocab"]
            if sorted(numbers.values()) != list(range(len(numbers))):  # else the library exhausts memory and aborts
                raise ValueError("its tokens must be numbered from 0 on")
            pairs = BytePairs(json.dumps(state["tokenizer"]))
            require_byte_pairs(pairs)
            return pairs
        case kind:
            raise ValueError(f"expected words, characters or byte_pairs, got {kind!r:.40}")


def require_distinct(pieces: Sequence[str]) -> None:
    """Raises ValueError if a word or character is repeated, or cannot be encoded in UTF-8."""
    if len(set(pieces)) < len(pieces):
        raise ValueError("its pieces must be different")
    "".join(pieces).encode()


def require_byte_pairs(found: BytePairs) -> None:
    """Raises ValueError unless the settings are those of `BytePairs.learn`, with which every text is restored."""
    from tokenizers import pre_tokenizers

    state, settings = json.loads(found.tokenizer.to_str()), json.loads(empty_tokenizer().to_str())
    numbers = state["model"].pop("vocab")
    for each in (state, settings):
        each["model"] = {key: value for key, value in each["model"].items() if key not in ("vocab", "merges")}
    if state != settings:
        raise ValueError("its settings must be those of byte pairs of bytes")
    alphabet = set(pre_tokenizers.ByteLevel.alphabet())
    if sorted(numbers.values()) != list(range(len(numbers))) or not alphabet <= numbers.keys():
        raise ValueError("its tokens must be numbered from 0 on, with one for each byte")
    if not alphabet.issuperset("".join(numbers)):
        raise ValueError("its tokens must be spelt with bytes")
