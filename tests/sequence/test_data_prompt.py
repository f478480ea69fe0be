"""A user's text becomes tokens or an error, and tokens become text as they come."""

import random

import pytest

from deq_sequence.data.vocabulary import Vocabulary, learn
from deq_sequence.demo.incremental_decoder import IncrementalDecoder
from deq_sequence.demo.predict import interface_of
from deq_sequence.demo.prompt import PromptError, encode_prompt, unknown_tokens

TEXT = ["to be or not to be : <unk>\n", "that is the question\n", "où est ☃ ?\n"]
WORDS, CHARACTERS, PAIRS = learn("words", TEXT), learn("characters", TEXT), learn("byte_pairs", TEXT, 270)


@pytest.mark.parametrize("vocabulary", [CHARACTERS, PAIRS])
@pytest.mark.parametrize("text", ["to be", "to be\n", "\n", "to\nbe ", " ☃"])
def test_a_prompt_is_its_text(vocabulary: Vocabulary, text: str) -> None:
    assert vocabulary.decode(encode_prompt(vocabulary, text).tolist()) == text


@pytest.mark.parametrize("vocabulary", [WORDS, CHARACTERS, PAIRS])
def test_the_example_of_a_registered_network_is_a_prompt_that_it_reads(vocabulary: Vocabulary) -> None:
    (prompt,) = interface_of(vocabulary).example
    assert encode_prompt(vocabulary, prompt).tolist() == [1]


def test_a_line_of_words_ends_where_the_prompt_ends_it() -> None:
    end = WORDS.encode([""]).tolist()
    assert encode_prompt(WORDS, "to be").tolist() + end == encode_prompt(WORDS, "to be\n").tolist()
    assert encode_prompt(WORDS, "that is\nto be").tolist() == [
        *WORDS.encode(["that is"]).tolist(),
        *WORDS.encode(["to be"]).tolist()[:-1],
    ]


@pytest.mark.parametrize(
    ("vocabulary", "text", "message"),
    [
        (CHARACTERS, "", "empty"),
        (WORDS, "  ", "has no words"),
        (CHARACTERS, "to zoo 7 z", "lacks 'z', '7'; leave"),
        (WORDS, "to see or not", "lacks 'see'; leave"),
        (PAIRS, "to \udcff be", r"'to \\udcff be' is not UTF-8"),
    ],
)
def test_a_prompt_that_cannot_be_read_says_what_to_change(vocabulary: Vocabulary, text: str, message: str) -> None:
    with pytest.raises(PromptError, match=message):
        encode_prompt(vocabulary, text)


def test_what_stands_for_unknown_text_is_known() -> None:
    assert unknown_tokens(CHARACTERS) == (0,)
    (unknown,) = unknown_tokens(WORDS)
    assert WORDS.decode([unknown]) == " <unk>"
    assert unknown_tokens(learn("words", ["to be"])) == ()
    assert unknown_tokens(PAIRS) == ()


@pytest.mark.parametrize("vocabulary", [WORDS, CHARACTERS, PAIRS])
def test_pieces_of_text_make_the_whole(vocabulary: Vocabulary) -> None:
    draws = random.Random(0)
    for length in (1, 7, 300):
        tokens = [draws.randrange(len(vocabulary)) for _ in range(length)]
        stream = IncrementalDecoder(vocabulary)
        pieces = [stream.push(token) for token in tokens]
        assert "".join(pieces) + stream.finish() == vocabulary.decode(tokens)


def test_a_character_of_several_bytes_comes_whole() -> None:
    bytes_only = learn("byte_pairs", ["a"], 256)
    stream = IncrementalDecoder(bytes_only)
    pieces = [stream.push(token) for token in bytes_only.encode(["é☃𝄞"]).tolist()]
    assert pieces == ["", "é", "", "", "☃", "", "", "", "𝄞"]
    assert stream.finish() == ""
