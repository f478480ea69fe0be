"""Starts on videos: what a frame begins with, and what is written of it."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.flow.small import SCENES, equilibrium, unrolled, write_sintel

from deq_core.experiment import config
from deq_core.experiment.config.layer import StopConfig
from deq_core.experiment.tables import numbers, read_rows
from deq_core.experiment.tracking.log import ignore
from deq_flow.config import Scales
from deq_flow.evaluation.sequences import Frame, estimated, measure, start_from, summary
from deq_flow.evaluation.sets import SequenceSet, sequences_of
from deq_flow.evaluation.starts import compare_starts
from deq_flow.inference import Estimator
from deq_flow.inference_params import Inference, Start, Starts

TWO = Inference(stop=StopConfig(max_steps=2), steps=2)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> SequenceSet:
    return sequences_of("sintel_clean", write_sintel(tmp_path_factory.mktemp("data")))


class Kept:
    """A log that keeps the name and step of every value."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int]] = []

    def __call__(self, values: Mapping[str, float], step: int = 0) -> None:
        self.seen.extend((key, step) for key in values)


def frames(pairs: SequenceSet, start: Start, choice: Inference = TWO) -> list[Frame]:
    return list(estimated(Estimator(equilibrium(), choice), pairs, start, progress="test"))


@pytest.mark.parametrize("choice", [TWO, replace(TWO, scales=Scales(coarsest=32))], ids=["one scale", "two scales"])
@pytest.mark.parametrize("start", ["cold", "warm", "reuse", "reuse_interpolated"])
def test_a_frame_starts_from_the_states_of_the_one_before_and_a_video_starts_cold(
    start: Start, choice: Inference, pairs: SequenceSet
) -> None:
    estimate = Estimator(equilibrium(), choice)
    found = frames(pairs, start, choice)
    assert [(frame.sequence, frame.number) for frame in found] == [
        (scene, number) for scene, count in SCENES.items() for number in range(1, count)
    ]
    for before, frame in zip([None, *found], found, strict=False):
        states = None if before is None or frame.number == 1 else start_from(start, before.output.states)
        alone = estimate(frame.sample.image1[None], frame.sample.image2[None], states)
        assert torch.equal(frame.output.flow, alone.flow)


def test_starts_differ_after_the_first_frame_of_a_video_alone(pairs: SequenceSet) -> None:
    runs = [frames(pairs, start) for start in ("cold", "warm", "reuse", "reuse_interpolated")]
    for index, frame in enumerate(runs[0]):
        flows = [run[index].output.flow for run in runs]
        same = [torch.equal(one, other) for place, one in enumerate(flows) for other in flows[:place]]
        assert same == 6 * [frame.number == 1]


def test_reuse_goes_on_where_the_frame_before_ended(pairs: SequenceSet) -> None:
    """On a video that stands still, two frames of two evaluations are one of four."""

    class Still:
        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int, /):
            return pairs[0]

        def sequences(self) -> dict[str, range]:
            return {"still": range(2)}

    last = frames(Still(), "reuse")[-1].output
    whole = frames(pairs, "cold", Inference(stop=StopConfig(max_steps=4)))[0].output
    assert last.solution is not None
    assert whole.solution is not None
    torch.testing.assert_close(last.solution.trace, whole.solution.trace[2:], rtol=1e-5, atol=1e-6)


def test_rows_say_what_a_solve_cost(pairs: SequenceSet) -> None:
    choice = Inference(stop=StopConfig(max_steps=5, tol=1e3))
    rows = list(measure(Estimator(equilibrium(), choice), pairs, ("cold", "reuse"), title="test"))
    assert [row["start"] for row in rows] == 5 * ["cold"] + 5 * ["reuse"]
    assert numbers(rows, "iterations") == 10 * [1], "a tolerance that the first evaluation meets"
    assert numbers(rows, "converged") == 10 * [1.0]
    assert numbers(rows, "nfe") == 10 * [1]
    fixed = list(measure(Estimator(unrolled(), Inference(steps=3)), pairs, ("cold",), title="test"))
    assert numbers(fixed, "iterations") == 5 * [3]
    assert "residual" not in fixed[0]


def test_means_are_over_the_pairs_that_agree() -> None:
    rows = [
        {"start": "cold", "sequence": "a", "epe": 1.0, "iterations": 4, "converged": True},
        {"start": "cold", "sequence": "a", "epe": 3.0, "iterations": 6, "converged": False},
        {"start": "cold", "sequence": "b", "epe": 8.0, "iterations": 2, "converged": True},
    ]
    assert summary(rows, ("start", "sequence")) == [
        {"start": "cold", "sequence": "a", "pairs": 2, "epe": 2.0, "iterations": 5.0, "converged": 0.5},
        {"start": "cold", "sequence": "b", "pairs": 1, "epe": 8.0, "iterations": 2.0, "converged": 1.0},
    ]
    assert summary(rows, ("start",))[0]["epe"] == 4.0


def test_starts_are_compared_at_every_budget(tmp_path: Path) -> None:
    root = write_sintel(tmp_path / "data")
    config = Starts(starts=("cold", "reuse"), budgets={"two": TWO, "one": Inference(stop=StopConfig(max_steps=1))})
    log = Kept()
    out = tmp_path / "out"
    values = compare_starts(equilibrium(), config, "sintel_clean", root=root, out=out, log=log)
    rows = read_rows(out / "frames.csv")
    assert len(rows) == 2 * 2 * 5
    assert {(row["budget"], row["start"], row["iterations"]) for row in rows} == {
        ("two", "cold", 2),
        ("two", "reuse", 2),
        ("one", "cold", 1),
        ("one", "reuse", 1),
    }
    means = json.loads((out / "metrics.json").read_text())
    mine = [row for row in rows if row["budget"] == "two" and row["start"] == "reuse"]
    assert means["two"]["reuse"]["epe"] == pytest.approx(sum(numbers(mine, "epe")) / 5)
    assert values["two.reuse.epe"] == means["two"]["reuse"]["epe"]
    assert len(read_rows(out / "sequences.csv")) == 2 * 2 * 2
    assert ("two.reuse.alley_1.epe", 3) in log.seen


def test_without_budgets_the_network_keeps_its_own(tmp_path: Path) -> None:
    root, network = write_sintel(tmp_path / "data"), equilibrium()
    out = tmp_path / "out"
    compare_starts(network, Starts(starts=("cold",)), "sintel_final", root=root, out=out, log=ignore)
    stop = network.equilibrium.eval_stop
    assert stop is not None
    assert {(row["budget"], row["iterations"]) for row in read_rows(out / "frames.csv")} == {("own", stop.max_steps)}


def test_no_start_or_one_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="starts: expected at least one"):
        Starts(starts=())
    (tmp_path / "starts.json").write_text('{"starts": ["cold", "cold"]}')
    with pytest.raises(config.ConfigError, match="starts: expected each once, got cold more than once"):
        config.load(Starts, tmp_path / "starts.json")
