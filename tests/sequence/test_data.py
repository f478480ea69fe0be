"""Corpora, vocabularies and batches."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deq_sequence.data import mini, tokens, vocabulary
from deq_sequence.data.batches import batches, windows
from deq_sequence.data.corpora import SPLITS, Corpus, CorpusError, read_files
from deq_sequence.data.registry import REGISTRY
from deq_sequence.data.vocabulary import BytePairs, Characters, Kind, Words, restore
from deq_sequence.data.wikitext import read_wikitext

LINES = ["the cat saw the dog\n", "\n", "the dog ran\n"]


def test_the_embedded_corpus_is_split_by_documents() -> None:
    corpus = mini.mini()
    texts = {split: "".join(corpus.lines(split)) for split in SPLITS}
    assert sum(map(len, texts.values())) > 1_500_000
    assert min(len(texts["valid"]), len(texts["test"])) > 100_000
    parts = {split: set(text.removesuffix("\n").split("\n\n")) for split, text in texts.items()}
    assert sum(map(len, parts.values())) == len(mini.documents())
    assert not parts["train"] & parts["test"]
    assert not parts["train"] & parts["valid"]


def test_the_embedded_corpus_is_prose() -> None:
    for document in mini.documents():
        _, *paragraphs = document.split("\n")
        assert all(paragraph[-1] in ".!?" and paragraph.isascii() for paragraph in paragraphs)


def test_a_damaged_embedded_corpus_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import lzma

    damaged = tmp_path / "mini.txt.xz"
    monkeypatch.setattr(mini, "FILE", damaged)
    for content, message in ((b"abc", "cannot be unpacked"), (lzma.compress(b"abc"), "does not have the SHA-256")):
        damaged.write_bytes(content)
        with pytest.raises(CorpusError, match=message):
            mini.documents()


def test_wikitext_is_read_as_published(tmp_path: Path) -> None:
    mini.write_mini_wikitext(tmp_path)
    assert REGISTRY.check("wikitext-2", tmp_path, released=False) == []
    corpus = read_wikitext(tmp_path, "wikitext-2")
    lines = list(corpus.lines("test"))
    assert lines[0] == " \n"
    assert lines[1].startswith(" = ")
    assert all(line == " \n" or (line.startswith(" ") and line.endswith(" \n")) for line in lines)
    words = Words.learn(corpus.lines("train"))
    assert words.words[0] == "<eos>"
    assert "<unk>" in words.words
    numbers = words.encode(lines)
    assert words.decode(numbers).split() == "".join(lines).split()
    assert (numbers == 0).sum() == len(lines)


def test_a_text_cut_short_is_noticed(tmp_path: Path) -> None:
    mini.write_mini_wikitext(tmp_path)
    problems = [str(problem) for problem in REGISTRY.check("wikitext-2", tmp_path)]
    assert len(problems) == 3
    assert all("expected" in problem and "lines as released, got" in problem for problem in problems)


def test_missing_texts_are_named(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("a\n")
    with pytest.raises(CorpusError, match=r"valid\.txt \(valid\), .*test\.txt \(test\)"):
        read_files(*(tmp_path / f"{split}.txt" for split in SPLITS))
    assert "the folder is missing" in str(REGISTRY.check("wikitext-103", tmp_path)[0])
    (tmp_path / "wikitext-103").mkdir()
    (missing,) = REGISTRY.check("wikitext-103", tmp_path)
    assert "no such text" in str(missing)


def test_text_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes(b"caf\xe9\n")
    with pytest.raises(CorpusError, match=r"latin\.txt: not UTF-8"):
        list(read_files(path, path, path).lines("train"))


def test_what_editors_put_before_a_text_is_no_part_of_it(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xef\xbb\xbfone\n\xef\xbb\xbftwo\n")
    assert list(read_files(path, path, path).lines("train")) == ["one\n", "\ufefftwo\n"]


def test_published_corpora_are_fetched_to_where_they_are_read() -> None:
    assert all(archive.out == one.folder for one in REGISTRY.sets.values() for archive in one.source.archives)


def test_words_come_by_frequency_and_then_in_the_order_of_the_text() -> None:
    words = Words.learn(LINES)
    assert words.words == ["<eos>", "the", "dog", "cat", "saw", "ran"]
    assert words.encode(LINES).tolist() == [1, 3, 4, 1, 2, 0, 0, 1, 2, 5, 0]
    assert words.decode([1, 2, 5, 0, 1]) == " the dog ran\n the"


def test_rare_words_are_unknown_where_the_size_is_limited() -> None:
    words = Words.learn(LINES, 4)
    assert words.words == ["<eos>", "the", "dog", "<unk>"]
    assert words.encode(["the cow\n"]).tolist() == [1, 3, 0]
    assert Words.learn(["<unk> a <unk> a b\n"], 3).words == ["<eos>", "<unk>", "a"]


def test_a_word_without_a_number_is_named() -> None:
    with pytest.raises(CorpusError, match="line 2 has 'cow'"):
        Words.learn(LINES).encode(["the\n", "the cow\n"])


def test_a_character_without_a_number_is_named() -> None:
    characters = Characters.learn(LINES)
    assert len(characters) == len(set("".join(LINES))) + 1
    with pytest.raises(
        CorpusError, match=r"line 2 has '§', which is not among the \d+ characters of the training text"
    ):
        characters.encode(["the\n", "the §\n"])


def test_a_smaller_vocabulary_has_one_token_for_all_other_characters() -> None:
    size = len(set("".join(LINES))) - 1
    for characters in (learnt := Characters.learn(LINES, size), restore(learnt.state())):
        assert len(characters) == size
        assert characters.encode(LINES).tolist().count(0) > 0
        assert characters.decode(characters.encode(["the §\n"])) == "the \ufffd\n"


@pytest.mark.parametrize(("kind", "size"), [("characters", None), ("byte_pairs", 300)])
def test_texts_come_back_as_they_were(kind: Kind, size: int | None) -> None:
    corpus = mini.mini()
    learnt = vocabulary.learn(kind, corpus.lines("valid"), size)
    lines = list(corpus.lines("valid"))
    numbers = learnt.encode(lines)
    assert numbers.dtype == np.int32
    assert numbers.max() < len(learnt)
    assert learnt.decode(numbers.tolist()) == "".join(lines)


def test_byte_pairs_hold_any_text() -> None:
    pairs = BytePairs.learn(LINES, 260)
    assert len(pairs) == 260
    assert pairs.decode(pairs.encode(["naïve § 漢字\n"]).tolist()) == "naïve § 漢字\n"
    with pytest.raises(ValueError, match="at least 256"):
        BytePairs.learn(LINES, 100)
    with pytest.raises(ValueError, match="need a size"):
        vocabulary.learn("byte_pairs", LINES)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such vocabulary"), ("{", "expected a vocabulary"), (json.dumps({"kind": "runes"}), "'runes'")],
)
def test_a_file_that_is_no_vocabulary_is_named(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "vocabulary.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(CorpusError, match=message) as caught:
        vocabulary.load(path)
    assert str(path) in str(caught.value)


def take(stream: Any, number: int) -> list[Any]:
    return [next(stream) for _ in range(number)]


def test_batches_read_rows_from_left_to_right() -> None:
    stream = batches(torch.arange(23), batch_size=2, length=4)(0)
    first, second, third, again = take(stream, 4)
    assert first.tokens.tolist() == [[0, 1, 2, 3], [11, 12, 13, 14]]
    assert first.targets.tolist() == [[1, 2, 3, 4], [12, 13, 14, 15]]
    assert second.tokens.tolist() == [[4, 5, 6, 7], [15, 16, 17, 18]]
    assert third.tokens.tolist() == [[8, 9], [19, 20]]  # the last of an epoch is shorter
    assert third.targets.tolist() == [[9, 10], [20, 21]]
    assert [batch.first for batch in (first, second, third, again)] == [True, False, False, True]
    assert torch.equal(again.tokens, first.tokens)


@pytest.mark.parametrize("shift", [False, True])
def test_a_batch_is_a_function_of_its_number(shift: bool) -> None:
    stream = batches(torch.arange(50), batch_size=3, length=4, seed=5, shift=shift, lanes=2)
    ahead = take(stream(0), 40)
    for start in (7, 20):
        for expected, found in zip(ahead[start:], take(stream(start), 40 - start), strict=True):
            assert torch.equal(expected.tokens, found.tokens)
            assert (expected.first, expected.lane) == (found.first, found.lane)


def test_shifts_depend_on_seed_and_epoch() -> None:
    beginnings = {
        int(take(batches(torch.arange(997), batch_size=1, length=996, seed=seed, shift=True)(epoch), 1)[0].tokens[0, 0])
        for seed in (0, 1)
        for epoch in (0, 1)
    }
    assert len(beginnings) == 4


def test_lanes_read_rows_of_their_own() -> None:
    both = take(batches(torch.arange(24), batch_size=2, length=3, lanes=2)(0), 4)
    whole = take(batches(torch.arange(24), batch_size=4, length=3)(0), 2)
    assert [batch.lane for batch in both] == [0, 1, 0, 1]
    for step in range(2):
        parts = [batch.tokens for batch in both[2 * step : 2 * step + 2]]
        assert torch.equal(torch.cat(parts), whole[step].tokens)


def test_a_text_too_short_for_its_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="too few for 6 rows"):
        batches(torch.arange(11), batch_size=3, length=4, lanes=2)
    with pytest.raises(ValueError, match="too few for 6 rows"):
        next(windows(torch.arange(11), length=4, batch_size=6))


@pytest.mark.parametrize("stride", [None, 1, 2, 4, 5])
@pytest.mark.parametrize("size", [2, 5, 6, 7, 23])
def test_windows_score_every_token_once(stride: int | None, size: int) -> None:
    text = torch.arange(size)
    scored = [
        window.targets[0, window.targets.shape[1] - window.scored :]
        for window in windows(text, length=5, stride=stride)
    ]
    assert torch.cat(scored).tolist() == list(range(1, size))


@pytest.mark.parametrize("stride", [1, 3, 5])
def test_windows_say_what_is_read_again(stride: int) -> None:
    remembered: list[int] = []
    for window in windows(torch.arange(23), length=5, stride=stride):
        begin = int(window.tokens[0, 0])
        assert remembered == list(range(begin))  # all before the window, and nothing of it
        read = [*remembered, *window.tokens[0].tolist()]
        remembered = read[: len(read) - window.again]


def test_rows_of_windows_are_those_of_the_release() -> None:
    (first, second, third) = windows(torch.arange(23), length=4, batch_size=2)
    assert first.tokens.tolist() == [[0, 1, 2, 3], [11, 12, 13, 14]]
    assert third.targets.tolist() == [[9, 10], [20, 21]]
    assert second.again == 0


def small_corpus() -> Corpus:
    return Corpus({"train": "".join(LINES), "valid": "the dog\n", "test": "the cat ran\n"})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such text"),
        (np.array([0.5]), "a row of int32"),
        (np.array([99], dtype=np.int32), "int32 from 0 to 5"),
        (b"\x93NUMPY", "expected an array of numbers"),
        (b"", "expected an array of numbers"),
    ],
)
def test_numbers_that_do_not_fit_are_named(tmp_path: Path, content: Any, message: str) -> None:
    tokens.write(tmp_path, tokens.number(small_corpus(), "words"))
    path = tmp_path / "test.npy"
    path.unlink()
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content)
    with pytest.raises(CorpusError, match=message) as caught:
        tokens.read(tmp_path)
    assert str(path) in str(caught.value)


ALPHABET = vocabulary.learn("byte_pairs", ["a b\n"], 256).state()["tokenizer"]


def changed(**changes: Any) -> dict[str, Any]:
    """The tokenizer of byte pairs, with parts of its model replaced."""
    return {**ALPHABET, "model": {**ALPHABET["model"], **changes}}


@pytest.mark.parametrize(
    "state",
    [
        [],
        {"kind": []},
        {"kind": "words"},
        {"kind": "words", "words": "abc"},
        {"kind": "words", "words": ["<eos>", 3]},
        {"kind": "words", "words": ["<eos>", "a b"]},
        {"kind": "words", "words": ["<eos>", "a", "a"]},
        {"kind": "words", "words": ["a", "b"]},
        {"kind": "characters", "characters": ["a"]},
        {"kind": "characters", "characters": "aa"},
        {"kind": "characters", "characters": "\ud800"},
        {"kind": "byte_pairs", "tokenizer": {}},
        {"kind": "byte_pairs", "tokenizer": changed(vocab={"a": 7})},
        {"kind": "byte_pairs", "tokenizer": changed(vocab={**ALPHABET["model"]["vocab"], "a": 1_000_000})},
        {"kind": "byte_pairs", "tokenizer": changed(vocab={**ALPHABET["model"]["vocab"], "\u4e2d": 256})},
        {"kind": "byte_pairs", "tokenizer": {**ALPHABET, "normalizer": {"type": "Lowercase"}}},
    ],
)
def test_a_vocabulary_that_cannot_number_every_text_and_spell_it_is_named(tmp_path: Path, state: Any) -> None:
    path = tmp_path / "vocabulary.json"
    path.write_text(json.dumps(state))
    with pytest.raises(CorpusError, match=r"vocabulary\.json: expected a vocabulary, got .*; make it again"):
        vocabulary.load(path)


HEADER = b"{'descr': '<i4', 'fortran_order': False, 'shape': (400000000,), }"


@pytest.mark.parametrize(
    "content",
    [
        b"PK\3\4" + bytes(100),
        b"\x93NUMPY\x01\x00" + (117).to_bytes(2, "little") + HEADER.ljust(116) + b"\n" + bytes(16),
        b"\x93NUMPY\x01\x00" + (60).to_bytes(2, "little") + b"(" * 60,
    ],
)
def test_numbers_that_are_not_there_are_refused_before_they_take_memory(tmp_path: Path, content: bytes) -> None:
    tokens.write(tmp_path / "data", tokens.number(Corpus(dict.fromkeys(SPLITS, "a b c\n")), "characters"))
    (tmp_path / "data" / "train.npy").write_bytes(content)
    with pytest.raises(CorpusError, match=r"train\.npy: expected an array of numbers"):
        tokens.read(tmp_path / "data")


def test_a_text_that_cannot_be_read_is_a_problem_of_the_check_beside_others(tmp_path: Path) -> None:
    (tmp_path / "wikitext-2").mkdir()
    for split in SPLITS:
        (tmp_path / "wikitext-2" / f"wiki.{split}.tokens").write_bytes(b"a\n" if split == "test" else b"\xff\n")
    problems = [str(problem) for problem in REGISTRY.check("wikitext-2", tmp_path)]
    assert ["not UTF-8" in problem for problem in problems] == [True, True, False]
