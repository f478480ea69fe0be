"""What comes out of DVC's cache is what its name says, whichever engine takes it."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from tests.workflows.checkout import run

from workflows import dvc_state
from workflows.engines import cache

ONCE = ["get", "train1", "train2", "plot"]
DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "a bit": lambda data: bytes([data[0] ^ 1]) + data[1:],
    "cut": lambda data: data[:-1],
    "zeros": lambda data: bytes(len(data)),
    "nothing": lambda _: b"",
    "more": lambda data: data + b"\n",
}


def entry(stage: str) -> Path:
    """The cache's entry of a stage's one output."""
    (out,) = yaml.safe_load(Path("dvc.lock").read_text())["stages"][stage]["outs"]
    return Path(".dvc/cache/files/md5", out["md5"][:2], out["md5"][2:])


def harm(path: Path, damage: Callable[[bytes], bytes] = DAMAGES["a bit"]) -> None:
    """Damages a file and leaves it as it was otherwise, read-only and with its dates."""
    before = path.stat()
    path.chmod(0o644)
    path.write_bytes(damage(path.read_bytes()))
    path.chmod(before.st_mode)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_entry_is_removed_and_said(damage: str, pipeline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    harm(entry("plot"), DAMAGES[damage])
    Path("figure.svg").unlink()
    assert cache.mend()
    assert not entry("plot").exists()
    assert capsys.readouterr().err == (
        f"{entry('plot')}: damaged, its content does not have the MD5 in its name; removed; figure.svg is made again\n"
    )
    assert not cache.mend()


def test_dvc_alone_makes_again_what_is_damaged(pipeline: Path) -> None:
    """In an experiment, which is a `dvc repro` and more."""
    right = Path("figure.svg").read_bytes()
    run(pipeline, "git", "add", "--all")
    run(pipeline, "git", "commit", "--quiet", "--message", "Before")
    harm(entry("plot"))
    Path("figure.svg").unlink()
    run(pipeline, "dvc", "exp", "run", "plot")
    assert Path("figure.svg").read_bytes() == right == entry("plot").read_bytes()
    assert Path("runs").read_text().split() == [*ONCE, "plot"]


def test_a_plan_of_snakemake_finds_what_is_damaged_to_be_made_again(pipeline: Path) -> None:
    right = Path("figure.svg").read_bytes()
    harm(entry("plot"))
    harm(Path("figure.svg"))  # as DVC alone would have restored it
    dvc_state.show_to_snakemake()
    assert Path("figure.svg").stat().st_mtime == dvc_state.LONG_AGO
    run(pipeline, "dvc", "repro", "--single-item", "plot")
    assert Path("figure.svg").read_bytes() == right == entry("plot").read_bytes()


def test_a_good_copy_in_the_workspace_is_put_back_and_nothing_runs(
    pipeline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    right, mode = entry("plot").read_bytes(), entry("plot").stat().st_mode
    harm(entry("plot"))
    assert cache.mend()
    assert (entry("plot").read_bytes(), entry("plot").stat().st_mode) == (right, mode)
    assert capsys.readouterr().err.endswith("; put back from figure.svg\n")
    run(pipeline, "dvc", "repro")
    assert Path("runs").read_text().split() == ONCE


@pytest.mark.parametrize("part", ["listing", "file"])
def test_a_folder_is_looked_at_with_all_that_is_in_it(part: str, pipeline: Path) -> None:
    listing = entry("get")
    assert listing.suffix == ".dir"
    ((_, _), (_, md5)) = cache.below(Path("data"), listing.parent.name + listing.name, cache.folder())
    damaged = {"listing": listing, "file": cache.folder() / md5[:2] / md5[2:]}[part]
    right = damaged.read_bytes()
    harm(damaged)
    for copy in ("data/manifest.json", "out/1.csv", "out/2.csv"):
        Path(copy).unlink()
    Path("data").rmdir()
    run(pipeline, "dvc", "repro")
    assert Path("data/manifest.json").read_text() == "source\n"
    assert damaged.read_bytes() == right


def test_a_stage_that_is_forced_is_not_given_damaged_bytes_back(pipeline: Path) -> None:
    right = Path("figure.svg").read_bytes()
    harm(entry("plot"))
    Path("figure.svg").unlink()
    cache.mend_outputs_of("plot")  # what workflows.stage does before a command
    run(pipeline, "dvc", "repro", "--force", "--single-item", "plot")
    assert Path("figure.svg").read_bytes() == right == entry("plot").read_bytes()


def test_the_entries_of_other_stages_are_left_to_their_own(pipeline: Path) -> None:
    harm(entry("plot"))
    cache.mend_outputs_of("get")
    cache.mend_outputs_of("unknown")
    assert entry("plot").exists()


def test_an_entry_of_no_recorded_result_is_removed_too(pipeline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("dvc.lock").rename("aside.lock")
    old = next(path for path in cache.folder().glob("*/*") if path.suffix != ".dir")
    harm(old)
    assert cache.mend()
    assert not old.exists()
    assert capsys.readouterr().err.endswith("; removed; no result in dvc.lock has it\n")


def test_the_cache_is_where_dvc_is_told_that_it_is(pipeline: Path) -> None:
    Path(".dvc/cache").rename("elsewhere")
    Path(".dvc/config.local").write_text("[cache]\n    dir = ../elsewhere\n")
    moved = Path("elsewhere", *entry("plot").parts[2:])
    harm(moved)
    Path("figure.svg").unlink()
    assert cache.mend()
    assert not moved.exists()


@pytest.mark.parametrize("lock", ["", "schema: '2.0'\n", "schema: '2.0'\nstages:\n"])
def test_a_lock_file_without_stages_records_nothing(lock: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dvc.lock").write_text(lock)
    assert cache.recorded() == dvc_state.recorded_stages(lock) == {}
