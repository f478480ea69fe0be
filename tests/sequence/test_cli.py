"""The commands of `deq-sequence` do what their functions do, and fail with a sentence."""

import json
from pathlib import Path

import pytest
import torch
from tests.sequence.parity import released_state

from deq_sequence import load
from deq_sequence.cli import main
from deq_sequence.data.mini import write_mini_wikitext


def test_a_released_file_is_converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "pretrained.pkl", tmp_path / "own" / "model.safetensors"
    torch.save(released_state(), source)
    main(["convert", str(source), str(out), "--variant", "wt103-preln-reg"])
    model = load(out)
    assert model.size.norm == "pre"
    assert model.equilibrium.memory == 300
    last = capsys.readouterr().out.splitlines()[-1]
    assert json.loads(last) == {"parameters": sum(parameter.numel() for parameter in model.parameters())}


def test_what_cannot_be_converted_is_one_sentence(tmp_path: Path) -> None:
    source = tmp_path / "pretrained.pkl"
    torch.save({"weight": torch.zeros(2)}, source)
    with pytest.raises(SystemExit, match="unexpected weight"):
        main(["convert", str(source), str(tmp_path / "model.safetensors")])
    assert not (tmp_path / "model.safetensors").exists()


def test_a_corpus_is_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_mini_wikitext(tmp_path)
    main(["check-data", "wikitext-2", "--root", str(tmp_path), "--no-released"])
    assert json.loads(capsys.readouterr().out) == {"problems": 0}
    with pytest.raises(SystemExit) as caught:
        main(["check-data", "wikitext-2", "--root", str(tmp_path)])
    assert caught.value.code == 1
    assert "lines, got" in capsys.readouterr().out


def test_an_unknown_corpus_is_named() -> None:
    with pytest.raises(SystemExit, match="expected one of wikitext-103, wikitext-2, got 'ptb'"):
        main(["fetch", "ptb"])
