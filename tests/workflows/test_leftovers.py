"""A sweep that has shrunk is a state like any other: what its stages left does not count, and nothing of it is lost."""

from pathlib import Path

import pytest
from tests.workflows.checkout import edit, run

from workflows import dvc_state
from workflows.engines import leftovers

FULL, SMALL = "steps: 3\nseeds: [1, 2]", "steps: 4\nseeds: [1]"


def by_dvc() -> None:
    run(Path(), "dvc", "repro", "--quiet")


def by_stages() -> None:
    """As Snakemake does it: it plans, and lets DVC run what is changed and what comes after, one stage at a time."""
    dvc_state.show_to_snakemake()
    for stage in (*dvc_state.status()[0], "plot"):
        run(Path(), "dvc", "repro", "--quiet", "--single-item", stage)


def runs() -> list[str]:
    return Path("runs").read_text().split()


def change(old: str, new: str) -> None:
    edit(Path("params.yaml"), old, new)


def test_parameters_that_come_back_bring_their_results_without_a_run(pipeline: Path) -> None:
    figure, before = Path("figure.svg").read_bytes(), runs()
    change(FULL, SMALL)
    by_stages()
    assert len(list(Path("out").iterdir())) == 1
    small_figure, after = Path("figure.svg").read_bytes(), runs()
    assert after[-1] == "plot"
    assert after != before
    for engine, old, new, expected in ((by_dvc, SMALL, FULL, figure), (by_stages, FULL, SMALL, small_figure)):
        change(old, new)
        engine()
        assert Path("figure.svg").read_bytes() == expected
        assert dvc_state.status()[0] == {}
    assert runs() == after


def test_a_clone_with_the_lock_agrees(pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    change("seeds: [1, 2]", "seeds: [1]")
    by_dvc()
    for command in (
        ("dvc", "remote", "add", "--quiet", "--default", "store", str(tmp_path / "store")),
        ("dvc", "push", "--quiet"),
        ("git", "add", "--all"),
        ("git", "commit", "--quiet", "--message", "Shrink the sweep"),
        ("git", "clone", "--quiet", ".", str(tmp_path / "clone")),
    ):
        run(pipeline, *command)
    monkeypatch.chdir(tmp_path / "clone")
    run(Path(), "dvc", "pull", "--quiet")
    assert dvc_state.status()[0] == {}


@pytest.mark.parametrize("cause", ["changed", "not in the cache"])
def test_what_would_be_lost_stays_and_is_named(cause: str, pipeline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ((stage, path, md5),) = (change("seeds: [1, 2]", "seeds: [1]"), list(leftovers.leftovers()))[1]
    assert (stage, path) == ("train@2", Path("out/2.csv"))
    if cause == "changed":
        path.write_text("mine\n")
    else:
        Path(".dvc/cache/files/md5", md5[:2], md5[2:]).unlink()
    text = path.read_text()
    assert not leftovers.take_out()
    assert path.read_text() == text
    said = capsys.readouterr().err
    assert said.startswith("out/2.csv: left by the stage train@2, which is no longer there")
    assert said.endswith("move it elsewhere, or delete it\n")


def test_what_another_stage_writes_now_is_not_left_over(pipeline: Path) -> None:
    edit(Path("dvc.yaml"), "  train:\n", "  fit:\n")
    assert list(leftovers.leftovers()) == []


def test_what_is_taken_out_is_said_in_one_sentence(pipeline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change("seeds: [1, 2]", "seeds: [3]")
    assert leftovers.take_out()
    assert not Path("out").exists()
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("2 files of stages that are no longer there, of train, were taken out of the workspace")
    assert not leftovers.take_out()
