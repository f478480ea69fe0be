"""The commands of `deq-sequence` do what their functions do, and fail with a sentence."""

import hashlib
import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.core.experiment.server import serving
from tests.sequence.parity import released_state

from deq_core.experiment.download import resume
from deq_sequence import load
from deq_sequence.cli import main
from deq_sequence.data.mini import write_mini_wikitext
from deq_sequence.data.registry import REGISTRY


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


@pytest.mark.parametrize("name", ["perplexity", "delta"])
def test_results_that_are_missing_are_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"(?s): expected the results of .* cases of.*`snakemake sequence` makes them"):
        main(["report", name, "--results", str(tmp_path), "--out", str(tmp_path / "out"), "--params", "params.yaml"])


def test_a_corpus_is_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_mini_wikitext(tmp_path)
    main(["check-data", "wikitext-2", "--data", str(tmp_path), "--no-released"])
    assert json.loads(capsys.readouterr().out) == {"problems": 0}
    with pytest.raises(SystemExit) as caught:
        main(["check-data", "wikitext-2", "--data", str(tmp_path)])
    assert caught.value.code == 1
    assert "lines as released, got" in capsys.readouterr().out


def zipped(root: Path, name: str) -> bytes:
    """The archive of a corpus, its files below a folder of its name as in the published one."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((root / name).iterdir()):
            archive.write(path, f"{name}/{path.name}")
    return data.getvalue()


def test_a_corpus_is_fetched_over_a_connection_that_breaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_mini_wikitext(tmp_path / "origin")
    content = zipped(tmp_path / "origin", "wikitext-2")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(resume, "CHUNK", 10_000)
    with serving() as web:
        web.files["wikitext-2-v1.zip"] = content
        checksum = f"md5:{hashlib.md5(content).hexdigest()}"
        published = REGISTRY.sets["wikitext-2"]
        (archive,) = published.source.archives
        local = replace(archive, urls=(web.url("wikitext-2-v1.zip"),), checksum=checksum)
        source = replace(published.source, archives=(local,))
        monkeypatch.setitem(REGISTRY.sets, "wikitext-2", replace(published, source=source))  # pyright: ignore[reportArgumentType]  a dict
        web.breaks = [len(content) // 2]
        main(["download", "wikitext-2", "--out", str(tmp_path / "data")])
        assert len(web.asked) == 2
        wrong = replace(local, out="other", checksum=f"md5:{'0' * 32}")
        source = replace(published.source, archives=(wrong,))
        monkeypatch.setitem(REGISTRY.sets, "wikitext-2", replace(published, source=source))  # pyright: ignore[reportArgumentType]  a dict
        with pytest.raises(SystemExit, match=r"deq-sequence: .*wikitext-2-v1"):
            main(["download", "wikitext-2", "--out", str(tmp_path / "data")])
    main(["check-data", "wikitext-2", "--data", str(tmp_path / "data"), "--no-released"])
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"problems": 0}
    for path in (tmp_path / "origin" / "wikitext-2").iterdir():
        assert (tmp_path / "data" / "wikitext-2" / path.name).read_bytes() == path.read_bytes()


def test_an_unknown_corpus_is_named() -> None:
    with pytest.raises(SystemExit, match="no data set is named 'ptb'; there are wikitext-103, wikitext-2"):
        main(["download", "ptb"])
