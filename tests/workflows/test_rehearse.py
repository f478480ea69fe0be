"""The rehearsal runs what the profile paper has, on little data and for few updates."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from deq_core.experiment import config
from workflows import rehearse, schemas
from workflows.paper.reductions import REDUCED, found, reduced
from workflows.profile import edits, profile, text

SMALLER = {
    *("steps", "batch_size", "processes", "seeds", "repeats", "evaluations", "max_steps", "thresholds"),
    *("crop", "size", "length", "classes", "complete", "device", "precision", "sync_batch_norm", "chance", "lr"),
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
    (tmp_path / "params.yaml").write_text(text(reduced(profile("paper"))))
    for name, kind in schemas.sections().items():
        config.check(kind, tmp_path / "params.yaml", name)


@pytest.mark.slow
def test_a_stage_is_rehearsed_with_those_that_it_reads_and_nothing_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")  # of a person's own runs
    assert rehearse.main(["delta_sine_report"]) == 0
    said = capfd.readouterr()
    for stage in ("delta_sine release-0", "delta_sine equilibrium-0", "delta_sine_report"):
        assert f" {stage} took " in said.err
    assert re.search(r"^delta_sine +2 jobs +\d+\.\d s of cores, +\d+ MB at most$", said.out, re.MULTILINE)
    assert list(tmp_path.glob("rehearsal-*")) == []


def test_a_stage_that_is_none_is_refused_and_the_nearest_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        rehearse.main(["flow_tarin", "--folder", str(tmp_path / "new")])
    assert "no stage flow_tarin (did you mean 'flow_train'?) in the profile paper" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
