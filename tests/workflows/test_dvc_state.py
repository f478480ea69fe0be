"""File dates say what DVC says, whatever state DVC was left in."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from dvc.repo import Repo
from tests.workflows.checkout import edit, run

from workflows import dvc_state, publish
from workflows.dvc_state import LONG_AGO, Stage, StateError, project
from workflows.engines import graph, workspace

LOCK, RWLOCK = "dvc.lock", ".dvc/tmp/rwlock"


def is_outdated(name: str | Path) -> bool:
    return os.stat(name).st_mtime == LONG_AGO


def test_outputs_of_unchanged_stages_are_no_older_than_their_inputs(pipeline: Path) -> None:
    os.utime("figure.svg", (2 * LONG_AGO, 2 * LONG_AGO))
    dvc_state.show_to_snakemake()
    dates = [os.stat(name).st_mtime_ns for name in ("params.yaml", "data/manifest.json", "out/1.csv", "figure.svg")]
    assert dates == sorted(dates)


FUTURE = 4e9
"""In the year 2096."""


def test_dates_in_the_future_make_no_stage_run_and_keep_none_from_it(pipeline: Path) -> None:
    """As a clock leaves them that was ahead and was set back."""
    dated = ["source.txt", "params.yaml", "dvc.lock", *(str(path) for path in Path("out").iterdir())]
    for name in dated:
        os.utime(name, (FUTURE, FUTURE))
    dvc_state.show_to_snakemake()
    names = ["source.txt", "data/manifest.json", "out/1.csv", "out/2.csv", "figure.svg"]
    assert [os.stat(name).st_mtime for name in names] == [FUTURE] * 5, "none is older than what it is made from"
    edit(pipeline / "params.yaml", "steps: 3", "steps: 4")
    dvc_state.show_to_snakemake()
    assert [is_outdated(name) for name in names] == [False, False, True, True, False]
    run(pipeline, "dvc", "repro", "--quiet")
    assert Path("runs").read_text().split() == ["get", "train1", "train2", "plot", "train1", "train2"]


def test_outputs_of_a_changed_stage_are_dated_long_ago_and_others_are_not(pipeline: Path) -> None:
    edit(pipeline / "params.yaml", "steps: 3", "steps: 4")
    dvc_state.show_to_snakemake()
    names = ["data/manifest.json", "out/1.csv", "out/2.csv", "figure.svg"]
    assert [is_outdated(name) for name in names] == [False, True, True, False]


def test_a_touched_file_changes_nothing_and_an_edited_output_does(pipeline: Path) -> None:
    Path("data/manifest.json").touch()
    Path("out/2.csv").write_text("edited by hand\n")
    dvc_state.show_to_snakemake()
    assert not is_outdated("out/1.csv")
    assert os.stat("out/1.csv").st_mtime_ns >= os.stat("data/manifest.json").st_mtime_ns
    assert is_outdated("out/2.csv")


def test_results_of_other_numbers_than_are_there_now_are_not_published(pipeline: Path) -> None:
    """As when the profile smoke has run, and mini was put in its place."""
    (pipeline / "source.txt").write_text("edited\n")
    publish.require_current(graph.rules({}), ["get", "train", "plot"])
    edit(pipeline / "params.yaml", "steps: 3", "steps: 4")
    publish.require_current(graph.rules({}), ["get"])
    with pytest.raises(SystemExit, match=r"train@1 and 1 other stages have not run with the numbers of params\.yaml"):
        publish.require_current(graph.rules({}), ["plot"])


def test_files_that_somebody_has_given_to_dvc_keep_their_dates(pipeline: Path) -> None:
    Path("notes.txt").write_text("mine\n")
    run(pipeline, "dvc", "add", "--quiet", "notes.txt")
    Path("notes.txt").write_text("mine, edited\n")
    assert dvc_state.main() == 0
    assert not is_outdated("notes.txt")


def test_half_written_outputs_of_a_stage_that_never_ended_are_dated_long_ago(pipeline: Path) -> None:
    edit(pipeline / "params.yaml", "[1, 2]", "[1, 2, 3]")
    Path("out/3.csv").write_text("half")
    dvc_state.show_to_snakemake()
    assert is_outdated("out/3.csv")


def test_an_old_record_of_a_renamed_stage_does_not_revive_its_outputs(tmp_path: Path) -> None:
    source, output = tmp_path / "source", tmp_path / "output"
    source.touch()
    output.touch()
    project({"new": [output]}, {"old": Stage((source,), (output,))})
    assert is_outdated(output)


def test_dates_pass_through_stages_in_the_order_of_the_graph(tmp_path: Path) -> None:
    a, b, c, d = (tmp_path / name for name in "abcd")
    for age, path in enumerate((a, b, c, d)):
        path.touch()
        os.utime(path, (1e9 - age, 1e9 - age))
    project({}, {"last": Stage((c,), (d,)), "middle": Stage((b,), (c,)), "first": Stage((a,), (b,))})
    assert [path.stat().st_mtime for path in (a, b, c, d)] == [1e9] * 4


def test_dates_are_those_of_links_where_dvc_links_into_its_cache(tmp_path: Path) -> None:
    """Snakemake asks an output for its link's own date, and an input for the later one of link and content."""
    kept, source, *outputs = (tmp_path / name for name in ("kept", "source", "a", "b"))
    for path in (kept, source):
        path.touch()
    os.utime(kept, (1e9, 1e9))
    for path in outputs:
        path.symlink_to(kept)
        os.utime(path, (1e9, 1e9), follow_symlinks=False)
    a, b = outputs
    project({"changed": [a]}, {"changed": Stage((source,), (a,)), "other": Stage((source,), (b,))})
    assert a.lstat().st_mtime == LONG_AGO
    assert b.lstat().st_mtime_ns == source.stat().st_mtime_ns
    assert kept.stat().st_mtime == 1e9, "others may have links to it, or own it"


def test_hard_links_which_have_no_dates_of_their_own_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(".dvc").mkdir()
    Path(".dvc/config").write_text("[cache]\n    type = reflink,hardlink\n")
    with pytest.raises(StateError, match="expected reflink, copy or symlink, got hardlink"):
        dvc_state.show_to_snakemake()


@pytest.mark.parametrize(
    ("damage", "busy"),
    [
        (lambda text: text[:10], '{"write": {"a":'),  # ends inside of a string
        (lambda text: text[: text.index("  train@1")] + "  train@1:\n    cmd: x\n    outs:\n    -\n", '{"write": 3}'),
        (lambda text: text[: text.index("md5: ") + 9], None),  # valid, but its last digest is cut
        (lambda _: "", None),
    ],
)
def test_results_come_back_without_a_run_when_state_files_are_damaged(
    pipeline: Path, damage: Callable[[str], str], busy: str | None
) -> None:
    """dvc.lock, and DVC's record of the files that its processes are at; bytes of zero are test_snakefile's."""
    Path(LOCK).write_text(damage(Path(LOCK).read_text()))
    if busy is not None:
        Path(RWLOCK).write_text(busy)
    dvc_state.show_to_snakemake()
    run(pipeline, "dvc", "repro")
    assert Path("runs").read_text().split() == ["get", "train1", "train2", "plot"]


def test_what_is_set_aside_is_kept_and_a_merge_conflict_called_one(
    pipeline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for text in ("first", "<<<<<<< ours\na: 1\n=======\na: 2\n>>>>>>> theirs\n"):
        Path(LOCK).write_text(text)
        dvc_state.set_aside(Path(LOCK))
    assert [Path(".dvc/tmp", name).read_text()[:5] for name in ("dvc.lock.damaged", "dvc.lock.damaged1")] == [
        "first",
        "<<<<<",
    ]
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith("dvc.lock was damaged, as a killed DVC or a power cut can leave it; moved to ")
    assert second.startswith("dvc.lock holds a merge conflict; both sides are in .dvc/tmp/dvc.lock.damaged1, ")


def test_a_mistake_in_dvc_yaml_is_passed_on_in_dvc_s_words(pipeline: Path) -> None:
    edit(pipeline / "dvc.yaml", "    cmd: echo get", "    command: echo get")
    with pytest.raises(StateError, match=r"dvc\.yaml' validation failed"):
        dvc_state.show_to_snakemake()


def test_files_that_stay_busy_stop_the_plan_with_a_sentence(pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = (pipeline / "out/1.csv").as_posix()
    Path(RWLOCK).write_text(f'{{"write": {{"{path}": {{"pid": {os.getpid()}, "cmd": "dvc repro"}}}}}}')
    monkeypatch.setattr(dvc_state, "BUSY_SECONDS", 0.0)
    with pytest.raises(StateError, match="a DVC process is at work in this checkout; wait for it to end"):
        dvc_state.show_to_snakemake()


def test_a_command_of_dvc_that_holds_its_lock_stops_the_plan_with_a_sentence(
    pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dvc_state, "BUSY_SECONDS", 0.0)
    with Repo().lock, pytest.raises(StateError, match=r"wait for it to end:\nUnable to acquire lock\."):
        dvc_state.show_to_snakemake()


def test_dates_are_left_alone_while_an_engine_works(pipeline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(pipeline / "params.yaml", "steps: 3", "steps: 4")
    held = workspace.join()
    assert held is not None
    dvc_state.show_to_snakemake()
    os.close(held)
    assert not is_outdated("out/1.csv")
    assert "dates of outputs are left as they are" in capsys.readouterr().err


def test_a_plan_of_what_another_engine_has_changed_meanwhile_is_refused(pipeline: Path) -> None:
    edit(pipeline / "params.yaml", "steps: 3", "steps: 4")
    shown = dvc_state.show_to_snakemake()
    dvc_state.require_shown(shown)
    run(pipeline, "dvc", "repro", "--quiet", "--single-item", "train@1")
    with pytest.raises(StateError, match="has worked in this checkout while this one planned: start it again"):
        dvc_state.require_shown(shown)
    dvc_state.require_shown(dvc_state.show_to_snakemake())


def test_a_stage_that_runs_each_time_is_no_result(pipeline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lock = Path(LOCK).read_text()
    Path(LOCK).write_text(
        lock.replace(lock[lock.index("  check:") : lock.index("  get:")], "")
    )  # as Snakemake leaves it
    before = os.stat("checked.txt").st_mtime
    assert dvc_state.main() == 0
    assert capsys.readouterr().out == "every stage is up to date\n"
    assert os.stat("checked.txt").st_mtime == before


def test_by_hand_it_says_what_is_changed(pipeline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert dvc_state.main() == 0
    assert capsys.readouterr().out == "every stage is up to date\n"
    edit(pipeline / "params.yaml", "steps: 3", "steps: 4")
    assert dvc_state.main() == 0
    assert capsys.readouterr().out.splitlines() == ["changed stages:", "  train@1", "  train@2"]
