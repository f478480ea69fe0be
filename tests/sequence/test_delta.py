"""The delta rule on a language model: at threshold 0 it is the dense model, and what is counted is what is computed."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.jobs import done
from tests.sequence.recipes import PROFILE, TEXT
from tests.sequence.small import small, some_tokens

import deq_core as deq
from deq_core.experiment.config import plain
from deq_core.experiment.config.delta import Rule, Variant
from deq_core.experiment.config.layer import StopConfig
from deq_core.experiment.files import write_json
from deq_core.experiment.study.delta import RunConfig
from deq_core.experiment.study.report import Results
from deq_core.experiment.study.stage import Section
from deq_core.experiment.tables import Row, numbers, read_rows, write_rows
from deq_sequence import build, save
from deq_sequence.cli import main
from deq_sequence.data import tokens as stored
from deq_sequence.data.corpora import CorpusError
from deq_sequence.evaluate import measure
from deq_sequence.reports.delta import page
from deq_sequence.studies.delta import DELTA, Delta, read_all, ways
from deq_sequence.studies.delta_trial import Start, Trial

RULE = Rule(thresholds=(0.05, 1000.0))
STUDY = Delta(
    text="characters",
    length=8,
    memory=6,
    batch_size=2,
    tokens=100,
    validation_tokens=60,
    variants={"plain": Variant(solver=deq.FixedPointIteration(), stop=StopConfig(max_steps=4), rule=RULE)},
    steps=(2, 4),
    starts=("cold", "token", "previous", "stream"),
)
TOKENS = some_tokens(batch=1, length=100)[0]


def swept(study: Delta) -> list[Trial]:
    """Every way of a study, and dense solves from every start that one can have."""
    model, (variant,) = small(memory=6), study.variants.values()
    starts: list[Start] = [start for start in study.starts if start != "stream"]
    dense = [RunConfig[Start]("dense", variant.solver, deq.Stop(4, None), start) for start in starts]
    trials = [Trial(model, way, study.skip) for way in (*dense, *ways(study))]
    read_all(trials, TOKENS, study)
    return trials


@pytest.fixture(scope="module")
def trials() -> list[Trial]:
    return swept(STUDY)


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
    rows = [of(trials, "cold", threshold) for threshold in (0.0, *RULE.thresholds)]
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
    all_of_them = swept(replace(STUDY, starts=("cold",)))
    skipped = swept(replace(STUDY, starts=("cold",), skip=("attention", "expand")))
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


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"length": 0}, "length, batch_size"),
        ({"variants": {}}, "one variant"),
        ({"steps": (0,)}, "steps must be at least 1"),
    ],
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(STUDY, **wrong)


def sweep_of(folder: Path, seed: int) -> None:
    """4 and 2 evaluations at threshold 0, and two thresholds; the first saves half at 2 % more perplexity."""
    case: Row = {"variant": "plain", "solver": "plain", "start": "cold", "max_steps": 4, "residual": 0.1}
    rows: list[Row] = [
        {"threshold": 0.0, "perplexity": 5.0, "macs_sparse": 3e6, "macs_dense": 4e6},
        {"threshold": 0.0, "perplexity": 5.02 + 0.01 * seed, "macs_sparse": 2e6, "macs_dense": 2e6, "max_steps": 2},
        {"threshold": 0.1, "perplexity": 5.1, "macs_sparse": 1e6 + 2e5 * seed, "macs_dense": 4e6},
        {"threshold": 0.5, "perplexity": 6.0, "macs_sparse": 5e5, "macs_dense": 4e6},
    ]
    split: list[Row] = [
        {**case, "macs_pixels": numbers([row], "macs_sparse")[0], **row, "split": name}
        for name in ("validation", "test")
        for row in rows
    ]
    write_rows(folder / f"deq-{seed}" / "sweep.csv", split)


def test_the_report_has_the_largest_saving_within_each_bound(tmp_path: Path) -> None:
    for seed in (0, 1):
        sweep_of(tmp_path / "delta", seed)
    write_json(tmp_path / "params.json", {"sequence": plain(replace(PROFILE, seeds=(0, 1), delta={"deq": STUDY}))})
    told = page(Section(tmp_path / "params.json", "sequence"), Results(tmp_path, "sequence"))
    strict, lenient = told.metrics["savings"]["deq, plain, cold"].values()
    assert (strict["way"], strict["saved"], strict["fewer_way"]) == ("4 steps", 25, "2 steps")
    assert (lenient["way"], lenient["saved"], lenient["exact"]) == ("plain, 0.1", 72.5, 25)
    assert lenient["saved_std"] == pytest.approx(5 / math.sqrt(2))
    assert told.metrics["means"]["deq.plain.cold.0.2.perplexity"] == pytest.approx(5.025)
    text = "\n".join(told.parts)
    assert "| deq, cold | 5 % | plain, 0.1 | 72.5 ± 3.5 / 72.5 | 25.0 ± 0.0 | 47.5 ± 3.5 | 2.0 | 2 steps |" in text
    assert "| deq | plain | cold | 4 steps, threshold 0.5 | 6.000 ± 0.000 | 1.0e-01 ± 0.0e+00 | 0.50 ± 0.00 |" in text
    assert list(told.figures) == ["tradeoff"]


def test_a_text_too_short_for_its_rows_is_refused_before_another_is_measured(data: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="test: 3 tokens are too few for 2 rows of at least two"):
        done(DELTA, replace(STUDY, tokens=3), data=data, model=tmp_path / "none")


def test_the_commands_write_tables_and_the_report_of_them(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "delta" / "deq-0"
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
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == pytest.approx(metrics, rel=5e-4)
    rows = read_rows(out / "sweep.csv")
    assert len(rows) == 2 * len(ways(study))
    assert [row["split"] for row in rows] == ["validation"] * len(ways(study)) + ["test"] * len(ways(study))
    assert all(math.isfinite(value) for value in numbers(rows, "perplexity"))
    assert {row["evaluation"] for row in read_rows(out / "evaluations.csv")} == {1, 2, 3, 4}
    main(["report", "delta", "--results", str(tmp_path), "--out", str(tmp_path / "report"), *section])
    told = json.loads((tmp_path / "report" / "metrics.json").read_text())["means"]
    assert told["deq.plain.cold.0.4.perplexity"] == metrics["plain.cold.0.4.perplexity"]
    assert told["deq.plain.cold.0.4.work"] <= 100
