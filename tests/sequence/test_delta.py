"""The delta rule on a language model: at threshold 0 it is the dense model, and what is counted is what is computed."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.sequence.recipes import PROFILE, TEXT, prepared
from tests.sequence.small import small, some_tokens

import deq_core as deq
from deq_core.experiment import plotting
from deq_core.experiment.config import plain
from deq_core.experiment.delta import Rule, Variant
from deq_core.experiment.files import write_json
from deq_core.experiment.results import numbers, read_rows
from deq_core.experiment.solving import StopConfig
from deq_sequence import build, save
from deq_sequence.cli import main
from deq_sequence.data import tokens as stored
from deq_sequence.delta import cases, sweep
from deq_sequence.delta_params import Delta
from deq_sequence.delta_plot import delta_figure
from deq_sequence.delta_trial import Trial
from deq_sequence.measure import measure

RULE = Rule(thresholds=(0.0, 0.05, 1000.0))
STUDY = Delta(
    text="characters",
    length=8,
    memory=6,
    batch_size=2,
    tokens=100,
    variants={"plain": Variant(solver=deq.FixedPointIteration(), stop=StopConfig(max_steps=4), rule=RULE)},
    dense_steps=(2, 4),
    starts=("cold", "token", "previous", "stream"),
)
TOKENS = some_tokens(batch=1, length=100)[0]


@pytest.fixture(scope="module")
def trials() -> list[Trial]:
    return sweep(small(memory=6), TOKENS, STUDY)


def of(trials: list[Trial], start: str, threshold: float | None = None, steps: int = 4) -> dict[str, Any]:
    (row,) = [
        trial.row()
        for trial in trials
        if (trial.case.start, trial.case.threshold, trial.case.stop.max_steps) == (start, threshold, steps)
    ]
    return row


def test_a_dense_solve_has_the_perplexity_of_the_model(trials: list[Trial]) -> None:
    model = small(memory=6, solver=deq.FixedPointIteration(), stop=deq.Stop(4, tol=None))
    expected = measure(model, TOKENS, length=8, batch_size=2).score
    assert of(trials, "cold")["perplexity"] == pytest.approx(expected.perplexity, rel=1e-9)
    assert of(trials, "cold")["tokens"] == expected.tokens == 98


@pytest.mark.parametrize("start", STUDY.starts)
def test_at_threshold_0_nothing_but_the_work_changes(trials: list[Trial], start: str) -> None:
    dense = of(trials, "previous" if start == "stream" else start)
    delta = of(trials, start, 0.0)
    for name in ("loss", "residual"):
        assert delta[name] == pytest.approx(dense[name], rel=1e-9)
    assert delta["macs_dense"] == pytest.approx(dense["macs_dense"], rel=1e-12)


def test_larger_thresholds_leave_less_work_and_a_larger_residual(trials: list[Trial]) -> None:
    rows = [of(trials, "cold", threshold) for threshold in RULE.thresholds]
    work = numbers(rows, "macs_sparse")
    residuals = numbers(rows, "residual")
    assert work == sorted(work, reverse=True)
    assert residuals[0] < residuals[1] < residuals[2]


def test_where_all_is_skipped_the_first_evaluation_and_attention_are_left(trials: list[Trial]) -> None:
    (trial,) = [one for one in trials if one.case.threshold == 1000.0 and one.case.start == "cold"]
    first, *later = trial.by_evaluation()
    size = trial.model.size
    layers = 4 * size.width * size.attention + 2 * size.width * size.inner
    assert all(row["layers_saved"] == 1 for row in later)
    assert first["layers_saved"] == 0
    # Two rows of 49 predictions in segments of 8; the first has no memory, the others one of 6 positions.
    seen = [8, *[14] * 5, 7]
    positions = [8] * 6 + [1]
    attention = sum(3 * size.attention * row * keys for row, keys in zip(positions, seen, strict=True))
    assert first["macs_dense"] == pytest.approx(2 * (attention + 49 * layers) / 98)
    assert later[0]["macs_sparse"] == pytest.approx(2 * attention / 98)
    assert of([trial], "cold", 1000.0)["macs_dense"] == pytest.approx(4 * 2 * (attention + 49 * layers) / 98)


def test_layers_left_dense_are_counted_on_both_sides() -> None:
    all_of_them = sweep(small(memory=6), TOKENS, replace(STUDY, starts=("cold",)))
    skipped = sweep(small(memory=6), TOKENS, replace(STUDY, starts=("cold",), skip=("attention", "expand")))
    assert {row["layer"] for trial in skipped for row in trial.by_layer()} == {"contract"}
    full, less = of(all_of_them, "cold", 1000.0), of(skipped, "cold", 1000.0)
    assert less["macs_dense"] == pytest.approx(full["macs_dense"])
    assert less["macs_sparse"] > full["macs_sparse"]


def test_kept_memories_skip_at_the_first_evaluation_of_a_segment_too(trials: list[Trial]) -> None:
    saved = {}
    for start in ("previous", "stream"):
        (trial,) = [one for one in trials if one.case.threshold == 0.05 and one.case.start == start]
        saved[start] = trial.by_evaluation()[0]["layers_saved"]
    assert saved["previous"] == 0
    assert saved["stream"] > 0


def test_dense_solves_are_measured_once_a_solver_and_start() -> None:
    variant = STUDY.variants["plain"]
    both = replace(STUDY, variants={"first": variant, "second": variant})
    dense = [(case.start, case.stop.max_steps) for case in cases(both) if case.threshold is None]
    assert len(dense) == len(set(dense)) == 6


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"length": 0}, "length, batch_size"), ({"variants": {}}, "one variant"), ({"dense_steps": (0,)}, "dense_steps")],
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(STUDY, **wrong)


def test_the_command_writes_tables_that_the_figure_is_drawn_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = prepared(tmp_path / "data"), tmp_path / "out"
    vocabulary = stored.read(data / "characters").vocabulary
    torch.manual_seed(0)
    save(tmp_path / "model" / "model.safetensors", build("mini", vocabulary=len(vocabulary)), vocabulary)
    study = replace(STUDY, starts=("cold", "stream"))
    profile = replace(PROFILE, texts={"characters": TEXT}, delta={"deq": study})
    write_json(tmp_path / "params.json", {"sequence": plain(profile)})
    places = ["--model", str(tmp_path / "model"), "--data", str(data), "--out", str(out)]
    main(["delta", "--method", "deq", *places, "--params", str(tmp_path / "params.json"), "--section", "sequence"])
    metrics = json.loads((out / "metrics.json").read_text())
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {k: round(v, 6) for k, v in metrics.items()}
    assert metrics["plain.cold.0.perplexity"] == pytest.approx(metrics["plain.cold.dense-4.perplexity"], rel=1e-4)
    rows = read_rows(out / "sweep.csv")
    assert len(rows) == len(cases(study))
    assert all(math.isfinite(value) for value in numbers(rows, "perplexity"))
    assert {row["evaluation"] for row in read_rows(out / "evaluations.csv")} == {1, 2, 3, 4}
    plotting.save(delta_figure({"deq": [out, out]}), tmp_path / "delta.svg", dpi=50)
    assert (tmp_path / "delta.svg").stat().st_size > 1000
