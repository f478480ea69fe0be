"""Files are named as dvc.lock names them."""

import hashlib
import os
from pathlib import Path

import pytest
import torch

from deq_core.experiment.tracking import provenance


def test_files_have_dvc_s_names_and_sums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, outside = tmp_path / "here" / "a" / "file", tmp_path / "there"
    inside.parent.mkdir(parents=True)
    for path in (inside, outside):
        path.write_bytes(path.name.encode())
    monkeypatch.chdir(tmp_path / "here")
    Path("a/linked").symlink_to(outside)  # into its cache, by DVC's cache.type
    assert provenance.of_files("out", [Path("a/file"), inside, outside, Path("a/linked"), Path("a"), Path("no")]) == {
        "out.a/file": hashlib.md5(b"file").hexdigest(),
        "out.a/linked": hashlib.md5(b"there").hexdigest(),
        f"out.{outside}": hashlib.md5(b"there").hexdigest(),
    }


def test_a_process_outside_a_repository_has_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", os.fspath(tmp_path.parent))
    tags = provenance.of_process()
    assert not any("git" in key for key in tags)
    assert "dvc.stage" not in tags
    assert tags["version.torch"] == str(torch.__version__)


def test_a_stage_without_an_engine_was_run_by_dvc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_STAGE", "flow_plot")
    assert provenance.of_process()["engine"] == "dvc"
