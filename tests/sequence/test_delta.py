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
from deq_core.experiment.config import plain
from deq_core.experiment.config.delta import Rule, Variant
from deq_core.experiment.config.layer import StopConfig
from deq_core.experiment.files import write_json
from deq_core.experiment.study.report import Results
from deq_core.experiment.study.stage import Section
from deq_core.experiment.tables import Row, numbers, read_rows, write_rows
from deq_sequence import build, save
from deq_sequence.cli import main
from deq_sequence.data import tokens as stored
from deq_sequence.evaluate import measure
from deq_sequence.reports.delta import cheapest, compared, page
from deq_sequence.studies.delta import Delta, sweep, ways
from deq_sequence.studies.delta_trial import Trial

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
        if (trial.way.start, trial.way.threshold, trial.way.stop.max_steps) == (start, threshold, steps)
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
    (trial,) = [one for one in trials if one.way.threshold == 1000.0 and one.way.start == "cold"]
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
        (trial,) = [one for one in trials if one.way.threshold == 0.05 and one.way.start == start]
        saved[start] = trial.by_evaluation()[0]["layers_saved"]
    assert saved["previous"] == 0
    assert saved["stream"] > 0


def test_dense_solves_are_measured_once_a_solver_and_start() -> None:
    variant = STUDY.variants["plain"]
    both = replace(STUDY, variants={"first": variant, "second": variant})
    dense = [(way.start, way.stop.max_steps) for way in ways(both) if way.threshold is None]
    assert len(dense) == len(set(dense)) == 6


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"length": 0}, "length, batch_size"), ({"variants": {}}, "one variant"), ({"dense_steps": (0,)}, "dense_steps")],
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(STUDY, **wrong)


def written(folder: Path, *rows: Row) -> Path:
    """A folder with such a sweep in it; a row without threshold is a dense solve."""
    case = {"variant": "plain", "solver": "plain", "start": "cold", "max_steps": 4, "residual": 0.1}
    write_rows(folder / "sweep.csv", [{**case, "elements_skipped": 0.5, **row} for row in rows])
    return folder


def sweep_of(folder: Path, seed: int) -> Path:
    """Dense solves of 4 and 2 evaluations, and three thresholds; the second saves half at 2 % more perplexity."""
    return written(
        folder / f"deq-{seed}",
        {"perplexity": 5.0, "macs_sparse": 4e6},
        {"perplexity": 5.02 + 0.01 * seed, "macs_sparse": 2e6, "max_steps": 2},
        {"perplexity": 5.0, "macs_sparse": 3e6 + 2e5 * seed, "threshold": 0.0},
        {"perplexity": 5.1, "macs_sparse": 2e6, "threshold": 0.1},
        {"perplexity": 6.0, "macs_sparse": 1e6, "threshold": 0.5},
        {"perplexity": 5.3, "macs_sparse": 1e6, "threshold": 0.1, "start": "stream"},
        {"perplexity": 5.2, "macs_sparse": 2e6, "start": "previous"},
    )


def test_work_is_a_share_of_the_longest_dense_solve_from_the_same_start(tmp_path: Path) -> None:
    rows = compared(read_rows(sweep_of(tmp_path, 0) / "sweep.csv"))
    assert numbers(rows, "work") == [100, 50, 75, 50, 25, 50, 100]


def test_the_report_has_the_largest_saving_within_each_bound(tmp_path: Path) -> None:
    for seed in (0, 1):
        sweep_of(tmp_path / "delta", seed)
    write_json(tmp_path / "params.json", {"sequence": plain(replace(PROFILE, seeds=(0, 1), delta={"deq": STUDY}))})
    told = page(Section(tmp_path / "params.json", "sequence"), Results(tmp_path, "sequence"))
    metrics = told.metrics
    strict, lenient, stream, _ = metrics["savings"]
    assert (strict["loss"], strict["threshold"], strict["fewer_steps"]) == (0.01, 0.0, 2)
    assert strict["saved"] == pytest.approx(22.5)
    assert strict["saved_std"] == pytest.approx(5 / math.sqrt(2))
    assert (lenient["loss"], lenient["threshold"], lenient["saved"]) == (0.05, 0.1, 50)
    assert (stream["start"], stream["fewer_steps"]) == ("stream", 4)
    assert "saved" not in stream, "no threshold is within 1 % of the longest dense solve"
    assert metrics["means"]["deq.plain.cold.dense-2.perplexity"] == pytest.approx(5.025)
    text = "\n".join(told.parts)
    assert "| deq | plain | cold | 1 % | 22.5 ± 3.5 | 0 | 50.0 ± 0.0 | 2 |" in text
    assert "| deq | plain | stream | 1 % | none within |  | 0.0 ± 0.0 | 4 |" in text
    assert "| deq | plain | cold | threshold 0.5, 4 | 6.000 ± 0.000 | 1.0e-01 ± 0.0e+00 | 1.00 ± 0.00 | 25.0" in text
    assert list(told.figures) == ["tradeoff"]


def test_nothing_is_saved_where_no_mean_is_within_the_bound() -> None:
    rows: list[Row] = [{"perplexity": 5.0, "work": 10.0}, {"perplexity": 7.0, "work": 10.0}]
    assert cheapest({0.1: rows}, 5.9) is None
    assert cheapest({0.1: rows}, 6.0) == 0.1


def test_the_commands_write_tables_and_the_report_of_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, out = prepared(tmp_path / "data"), tmp_path / "delta" / "deq-0"
    vocabulary = stored.read(data / "characters").vocabulary
    torch.manual_seed(0)
    save(tmp_path / "model" / "model.safetensors", build("mini", vocabulary=len(vocabulary)), vocabulary)
    study = replace(STUDY, starts=("cold", "stream"))
    profile = replace(PROFILE, texts={"characters": TEXT}, delta={"deq": study})
    write_json(tmp_path / "params.json", {"sequence": plain(profile)})
    places = ["--checkpoint", str(tmp_path / "model"), "--data", str(data), "--out", str(out)]
    section = ["--params", str(tmp_path / "params.json"), "--section", "sequence"]
    main(["study", "delta", "method=deq", "seed=0", *places, *section])
    metrics = json.loads((out / "metrics.json").read_text())
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {k: round(v, 6) for k, v in metrics.items()}
    assert metrics["plain.cold.0.perplexity"] == pytest.approx(metrics["plain.cold.dense-4.perplexity"], rel=1e-4)
    rows = read_rows(out / "sweep.csv")
    assert len(rows) == len(ways(study))
    assert all(math.isfinite(value) for value in numbers(rows, "perplexity"))
    assert {row["evaluation"] for row in read_rows(out / "evaluations.csv")} == {1, 2, 3, 4}
    main(["report", "delta", "--results", str(tmp_path), "--out", str(tmp_path / "report"), *section])
    told = json.loads((tmp_path / "report" / "metrics.json").read_text())["means"]
    assert told["deq.plain.cold.0.perplexity"] == metrics["plain.cold.0.perplexity"]
    assert told["deq.plain.cold.dense-4.work"] == 100
