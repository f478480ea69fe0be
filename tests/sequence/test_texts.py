"""Texts of one's own become tokens of every kind, or an error that names the file."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.sequence.recipes import MEASURE, PROFILE

from deq_core.experiment import config
from deq_sequence.cli import main
from deq_sequence.data import tokens as stored
from deq_sequence.data.texts import Files, Published, Text, prepare

LINES = "the cat sat on the mat\nthe dog sat on the log\n"


@pytest.fixture
def files(tmp_path: Path) -> Files:
    for split, text in (("train", LINES * 20), ("valid", LINES), ("test", "the cat sat on the log\n" * 4)):
        (tmp_path / f"{split}.txt").write_text(text, encoding="utf-8")
    train, valid, test = (str(tmp_path / f"{split}.txt") for split in ("train", "valid", "test"))
    return Files(train=train, valid=valid, test=test)


@pytest.mark.parametrize(("kind", "size"), [("characters", None), ("words", None), ("byte_pairs", 260)])
def test_files_of_one_s_own_become_tokens_and_come_back(
    kind: Any, size: int | None, files: Files, tmp_path: Path
) -> None:
    prepare(tmp_path / "out", Text(corpus=files, tokens=kind, size=size))
    read = stored.read(tmp_path / "out")
    text = read.vocabulary.decode(read.texts["test"].tolist())
    assert text.split() == Path(files.test).read_text().split()


def commanded(tmp_path: Path, text: Text, *arguments: str, **change: Any) -> None:
    """Runs a command with a profile whose text this is."""
    profile = replace(PROFILE, texts={"characters": text}, **change)
    (tmp_path / "params.yaml").write_text(json.dumps({"sequence": config.plain(profile)}))
    main([*arguments, "--params", str(tmp_path / "params.yaml")])


@pytest.mark.parametrize(("kind", "piece"), [("words", "bird"), ("characters", "b")])
def test_what_was_never_seen_is_named_with_its_file(kind: Any, piece: str, files: Files, tmp_path: Path) -> None:
    Path(files.valid).write_text("the cat sat on the mat\nthe bird flew\n")
    with pytest.raises(SystemExit, match=rf"valid\.txt: line 2 has '{piece}'.*give the vocabulary a size"):
        commanded(tmp_path, Text(corpus=files, tokens=kind), "download", "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_missing_file_and_a_corpus_that_was_not_fetched_are_named(files: Files, tmp_path: Path) -> None:
    out = ("download", "--out", str(tmp_path / "out"))
    with pytest.raises(SystemExit, match=r"no such text: nowhere\.txt \(test\)"):
        commanded(tmp_path, Text(corpus=replace(files, test="nowhere.txt"), tokens="characters"), *out)
    wikitext = Published(name="wikitext-103", root=str(tmp_path))
    with pytest.raises(SystemExit, match=r"wiki\.train\.tokens \(train\).*deq-sequence download"):
        commanded(tmp_path, Text(corpus=wikitext, tokens="words"), *out)


@pytest.mark.parametrize(("kind", "size"), [("byte_pairs", None), ("byte_pairs", 255), ("words", 1), ("characters", 0)])
def test_a_size_that_no_vocabulary_has_is_refused_before_any_work(kind: Any, size: int | None, files: Files) -> None:
    with pytest.raises(ValueError, match="size"):
        Text(corpus=files, tokens=kind, size=size)


@pytest.mark.parametrize("split", ["valid", "test", "train"])
def test_a_text_too_short_for_its_rows_is_named_before_training(split: str, files: Files, tmp_path: Path) -> None:
    Path(getattr(files, split)).write_text("the\n")
    text, data = Text(corpus=files, tokens="characters", size=4), ("--data", str(tmp_path / "data"))
    commanded(tmp_path, text, "download", "--out", str(tmp_path / "data"))
    command = ["study", "baselines"] if split == "test" else ["train", "--method", "deq"]
    with pytest.raises(SystemExit, match=rf"{split}.*4 tokens are too few for 4 rows of at least two"):
        commanded(tmp_path, text, *command, *data, "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    assert MEASURE.batch_size == 4
