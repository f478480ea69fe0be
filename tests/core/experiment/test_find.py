"""From a file to the run that wrote it, and from a run to its files."""

import hashlib
import os
import signal
from pathlib import Path

import pytest

from deq_core.experiment.tracking.find import find, main
from deq_core.experiment.tracking.run import track

pytestmark = pytest.mark.usefixtures("tracking_database")


def said(capsys: pytest.CaptureFixture[str], *wanted: str) -> tuple[str, str, int]:
    """What the command says, its errors, and its status."""
    with pytest.raises(SystemExit) as ended:
        main(wanted)
    out, err = capsys.readouterr()
    return out, err, int(ended.value.code or 0)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A file that a run wrote, in a folder whose name is no key of MLflow's."""
    (tmp_path / "manifest.json").write_text("{}")
    folder = tmp_path / "lr=1e-3"
    case = {"method": "deq", "seed": 0}
    with track("flow.train", {}, out=folder, case=case, data=[tmp_path / "manifest.json"]):
        folder.mkdir()
        (folder / "model").write_text("weights")
        (folder / "history.csv").write_text("step")
    return folder / "model"


def test_a_file_tells_of_its_run_and_the_run_of_its_files(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    identity = find(model)
    assert identity is not None
    told, errors, status = said(capsys, str(model))
    assert (errors, status) == ("", 0)
    assert f"flow.train deq seed 0 ({identity})" in told
    for word, path, text in (("read", "manifest.json", b"{}"), ("wrote", "lr=1e-3/model", b"weights")):
        assert f"{word:8} {hashlib.md5(text).hexdigest()} {path}\n" in told
    for wanted in (identity, "flow.train deq seed 0"):
        assert said(capsys, wanted) == (told, "", 0)


def test_what_became_of_a_run_s_files_is_told(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    identity = str(find(model))
    md5 = hashlib.md5(b"weights").hexdigest()
    model.unlink()
    model.with_name("history.csv").write_text("other")
    told, _, _ = said(capsys, identity)
    assert "lr=1e-3/model (gone)\n" in told
    assert "lr=1e-3/history.csv (changed since)\n" in told
    kept = tmp_path / ".dvc/cache/files/md5" / md5[:2] / md5[2:]
    kept.parent.mkdir(parents=True)
    kept.write_text("weights")
    assert f"(gone; .dvc/cache/files/md5/{md5[:2]}/{md5[2:]} is as it was)" in said(capsys, identity)[0]


@pytest.mark.parametrize("wanted", ["nowhere", "0" * 32, "it's", "", ".", "mlflow.db"])
def test_what_is_no_run_s_is_a_line_and_status_1(wanted: str, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told, errors, status = said(capsys, wanted, str(model))
    assert status == 1
    assert errors.count("\n") == 1
    assert errors.startswith(f"{wanted}: ")
    assert "flow.train deq seed 0" in told


def test_what_nobody_reads_ends_it_in_silence(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As behind `head`."""
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as unread:
        monkeypatch.setattr("sys.stdout", unread)
        with pytest.raises(SystemExit, match=str(128 + signal.SIGPIPE)):
            main([str(model)])
