"""The rehearsal runs what the profile paper has, on little data and for few updates."""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from deq_core.experiment import config
from workflows import rehearse, schemas
from workflows.profile import edits, profile
from workflows.reductions import REDUCED, found, reduced
from workflows.rehearse import Outcome, log_of

SMALLER = {
    *("steps", "batch_size", "processes", "seeds", "repeats", "evaluations", "max_steps", "thresholds"),
    *("crop", "size", "length", "classes", "complete", "device", "precision", "chance", "lr"),
}
"""The keys whose values may differ."""


def test_only_what_is_named_is_smaller_than_in_the_paper() -> None:
    published = profile("paper")
    changed = list(edits(published, reduced(profile("paper"))))
    assert {edit.keys[-1] for edit in changed} == SMALLER
    of_models = [edit.keys for edit in changed if "model" in edit.keys]
    assert {keys[-3:] for keys in of_models} == {("architecture", "head", "classes")}, "solves of trainings are whole"
    assert {recipe["steps"] for recipe in recipes(reduced(profile("paper")))} == {1, 2}
    idle = [
        one.places
        for one in REDUCED
        if not any(found(published, place.split("."), added=one.added) for place in one.places)
    ]
    assert idle == []


def recipes(value: Any) -> Iterator[Mapping[str, Any]]:
    """Of all trainings: what has an optimiser."""
    if isinstance(value, Mapping):
        if "optim" in value:
            yield value
        for each in value.values():
            yield from recipes(each)


def test_the_small_profile_is_one(tmp_path: Path) -> None:
    rehearse.prepare(tmp_path, reduced(profile("paper")))
    for name, kind in schemas.sections().items():
        config.check(kind, tmp_path / "params.yaml", name)


READS = {"report": {"measure"}, "measure": {"train"}, "train": {"data"}, "data": set[str](), "other": {"data"}}


def ending(failed: str, logs: Path, begun: list[str]) -> Callable[[str], Outcome]:
    """Stages of which one fails."""

    def perform(stage: str) -> Outcome:
        begun.append(stage)
        log_of(stage, logs).write_text(f"{stage}: first\n" + "and so on\n" * 20 + f"{stage}: last")
        return Outcome(stage, 1.0, 100, 3 if stage == failed else 0)

    return perform


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_stage_runs_after_those_that_it_reads_unless_they_fail(jobs: int, tmp_path: Path) -> None:
    begun: list[str] = []
    outcomes = rehearse.rehearse(READS, ending("train", tmp_path, begun), jobs=jobs)
    assert begun[0] == "data"
    assert sorted(begun) == ["data", "other", "train"]
    lacking = {one.stage: one.lacks for one in outcomes if one.status is None}
    assert lacking == {"measure": "train", "report": "measure"}
    text = rehearse.said(outcomes, tmp_path, 5.0)
    assert "train ended with 3:" in text
    assert "train: last" in text
    assert "train: first" not in text
    assert text.endswith("rehearsed 3 of 5 stages in 5 s, at most 100 MB each; 1 failed, 2 not run")


def test_a_stage_is_rehearsed_with_those_that_it_reads_and_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert rehearse.main(["delta_sine_report"]) == 0
    text = capsys.readouterr().out
    for stage in ("delta_sine@release-0", "delta_sine@equilibrium-0", "delta_sine_report"):
        assert f" {stage} " in text
    assert "rehearsed 3 of 3 stages" in text
    assert list(tmp_path.glob("rehearsal-*")) == []


def other(*_: object) -> None:
    """A training that becomes torchrun."""
    os.execv(sys.executable, [sys.executable, "-c", "raise SystemExit(3)"])


def test_a_stage_may_become_another_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearse, "perform", other)
    outcome = rehearse.run("train", [], log_of("train", tmp_path))
    assert (outcome.status, outcome.peak > 0, outcome.seconds > 0) == (3, True, True)


def killed(*_: object) -> None:
    """What a system does that has no memory left."""
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_stage_that_is_killed_has_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearse, "perform", killed)
    assert rehearse.run("train", [], log_of("train", tmp_path)).status == -signal.SIGKILL


def test_a_stage_that_is_none_is_refused_and_the_nearest_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        rehearse.main(["flow_tarin", "--folder", str(tmp_path / "new")])
    assert "no stage flow_tarin (did you mean 'flow_train'?) in the profile paper" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
