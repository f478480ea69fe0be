"""Metrics: the recorded numbers of both releases, and what is counted where."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.flow.parity import predictions, target

from deq_flow import metrics
from deq_flow.metrics import epe, kitti_protocol, released_metrics, sample_metrics, sintel_protocol, usable

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    """Values of the releases' formulas on `predictions(1)[0]` against `target()`."""
    return json.loads((GOLDEN / "flow_io.json").read_text())


def known(share: str) -> torch.Tensor:
    """The recorded validity, or all pixels."""
    valid = target()[1] > 0.5
    return valid if share == "valid" else torch.ones_like(valid)


def measured(valid: torch.Tensor) -> list[dict[str, float]]:
    flow, truth = predictions(1)[0], target()[0]
    return [sample_metrics(flow[i], truth[i], valid[i]) for i in range(2)]


def test_training_metrics_of_deq_flow_are_reproduced(recorded: dict[str, Any]) -> None:
    result = released_metrics(predictions(1)[0], target()[0], known("valid"))
    for name, released in (("epe", "epe"), ("px1", "1px"), ("px3", "3px"), ("px5", "5px")):
        torch.testing.assert_close(result[name], torch.tensor(recorded["metrics"][released]), rtol=1e-6, atol=0)


@pytest.mark.parametrize("share", ["valid", "all"])
def test_loss_metrics_of_deq_flow_are_reproduced(recorded: dict[str, Any], share: str) -> None:
    result = released_metrics(predictions(1)[0], target()[0], known(share))
    expected = recorded["release_metrics"][share]
    assert float(result["epe"].mean()) == pytest.approx(expected["epe_mean"], rel=1e-6)
    for name in ("px1", "px3", "px5"):
        assert float(result[name].mean()) == pytest.approx(expected[name], rel=1e-6)


@pytest.mark.parametrize("share", ["valid", "all"])
def test_training_metrics_of_raft_are_reproduced(recorded: dict[str, Any], share: str) -> None:
    result = sintel_protocol(measured(usable(target()[0], known(share))))
    expected = recorded["raft_metrics"][share]
    for name, released in (("epe", "epe"), ("px1", "1px"), ("px3", "3px"), ("px5", "5px")):
        assert result[name] == pytest.approx(expected[released], rel=1e-6)


def test_the_sintel_protocol_is_the_released_evaluation(recorded: dict[str, Any]) -> None:
    result = sintel_protocol(measured(known("all")))
    for name in ("epe", "px1", "px3", "px5"):
        assert result[name] == pytest.approx(recorded["sintel_eval"][name], rel=1e-6)


def test_the_kitti_protocol_is_the_released_evaluation(recorded: dict[str, Any]) -> None:
    result = kitti_protocol(measured(known("valid")))
    assert result["epe"] == pytest.approx(recorded["kitti_eval"]["epe"], rel=1e-6)
    assert result["f1_all"] == pytest.approx(recorded["kitti_eval"]["f1"], rel=1e-6)


def errors(values: list[float], speed: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """A flow (2, 1, n) whose errors are `values`, and its target, which moves by `speed` downwards."""
    truth = torch.zeros(2, 1, len(values))
    truth[1] = speed
    flow = truth.clone()
    flow[0, 0] = torch.tensor(values)
    return flow, truth


def test_shares_count_errors_strictly_below_the_bound() -> None:
    flow, truth = errors([0.5, 1.0, 2.5, 3.0, 4.5, 5.0, 80.0, 0.0])
    result = sample_metrics(flow, truth, torch.ones(1, 8, dtype=torch.bool))
    assert (result["px1"], result["px3"], result["px5"]) == (2 / 8, 4 / 8, 6 / 8)
    assert result["pixels"] == 8
    assert result["epe"] == pytest.approx(96.5 / 8)


@pytest.mark.parametrize(
    ("error", "speed", "outlier"),
    [(3.0, 0.0, False), (3.1, 0.0, True), (3.1, 61.9, True), (3.1, 62.1, False), (10.0, 190.0, True)],
)
def test_an_outlier_is_off_by_more_than_three_pixels_and_five_percent(
    error: float, speed: float, outlier: bool
) -> None:
    flow, truth = errors([error], speed)
    assert bool(metrics.outliers(flow, truth)) is outlier
    assert sample_metrics(flow, truth, torch.ones(1, 1, dtype=torch.bool))["f1_all"] == 100 * outlier


def test_pixels_that_are_not_valid_have_no_influence() -> None:
    flow, truth = errors([1.0, 3.0, 7.0, 9.0])
    valid = torch.tensor([[True, True, False, False]])
    truth[:, ~valid] = torch.nan
    flow[:, 0, 3] = torch.inf
    assert sample_metrics(flow, truth, valid)["epe"] == 2.0
    assert epe(flow[None], truth[None], valid[None]).tolist() == [2.0]


def test_epe_is_one_number_a_sample_and_nan_where_nothing_is_valid() -> None:
    flow, truth = errors([1.0, 3.0])
    valid = torch.tensor([[[True, True]], [[False, True]], [[False, False]]])
    result = epe(flow.expand(3, 2, 1, 2), truth.expand(3, 2, 1, 2), valid)
    assert result[:2].tolist() == [2.0, 3.0]
    assert result[2].isnan()


def test_released_metrics_count_what_is_not_valid_as_perfect() -> None:
    flow, truth = errors([3.0, 3.0, 3.0, 3.0])
    valid = torch.tensor([[True, False, False, False]])
    result = released_metrics(flow[None], truth[None], valid[None])
    assert result["epe"].tolist() == [0.75]
    assert [result[name].tolist() for name in ("px1", "px3", "px5")] == [[0.75], [0.75], [1.0]]
    truth[1, 0, 0] = 400.0
    assert released_metrics(flow[None], truth[None], valid[None])["epe"].tolist() == [0.0]


def test_protocols_differ_by_how_samples_of_unequal_size_are_joined() -> None:
    few, many = {"pixels": 1.0, "epe": 9.0, "f1_all": 100.0}, {"pixels": 9.0, "epe": 1.0, "f1_all": 0.0}
    shares = {"px1": 0.0, "px3": 0.0, "px5": 0.0}
    rows = [{**few, **shares}, {**many, **shares}]
    assert sintel_protocol(rows)["epe"] == pytest.approx(1.8)
    assert kitti_protocol(rows)["epe"] == pytest.approx(5.0)
    assert kitti_protocol(rows)["f1_all"] == sintel_protocol(rows)["f1_all"] == pytest.approx(10.0)


def test_samples_without_valid_pixels_are_refused_not_averaged() -> None:
    flow, truth = errors([1.0])
    empty = sample_metrics(flow, truth, torch.zeros(1, 1, dtype=torch.bool))
    full = sample_metrics(flow, truth, torch.ones(1, 1, dtype=torch.bool))
    with pytest.raises(ValueError, match="got 2 samples, 1 of them without"):
        kitti_protocol([full, empty])
    with pytest.raises(ValueError, match="got 0 samples"):
        sintel_protocol([])


def test_shapes_that_would_broadcast_are_refused() -> None:
    flow, truth = torch.zeros(3, 2, 4, 5), torch.zeros(1, 2, 4, 5)
    with pytest.raises(ValueError, match=r"both be \(\.\.\., 2, h, w\), got \(3, 2, 4, 5\) and \(1, 2, 4, 5\)"):
        metrics.epe_map(flow, truth)
    with pytest.raises(ValueError, match=r"valid must be bool \(3, 4, 5\), got torch.float32 \(3, 4, 5\)"):
        epe(flow, flow, torch.ones(3, 4, 5))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("speed", [0.0, 10.0, 1e4])
@pytest.mark.parametrize("component", [0, 1])
def test_a_prediction_that_is_not_a_number_is_within_no_bound_and_an_outlier(
    value: float, speed: float, component: int
) -> None:
    flow, truth = errors([0.0, 0.0], speed)
    flow[component, 0, 1] = value
    valid = torch.ones(1, 2, dtype=torch.bool)
    assert metrics.outliers(flow, truth).tolist() == [[False, True]]
    result = sample_metrics(flow, truth, valid)
    assert [result[name] for name in ("px1", "px3", "px5", "f1_all")] == [0.5, 0.5, 0.5, 50.0]
    assert not math.isfinite(result["epe"])
    part = metrics.region_metrics(flow, truth, {"all": valid})
    assert part["all.f1_all"] == 50.0
    released = released_metrics(flow[None], truth[None], valid[None], max_flow=1e5)
    assert [float(released[name]) for name in ("px1", "px3", "px5")] == [0.5, 0.5, 0.5]
    assert kitti_protocol([result, sample_metrics(truth, truth, valid)])["f1_all"] == 25.0


def test_where_nothing_is_valid_a_prediction_may_be_anything() -> None:
    flow, truth = errors([1.0, 1.0])
    flow[:, 0, 1] = torch.nan
    valid = torch.tensor([[True, False]])
    assert sample_metrics(flow, truth, valid) == sample_metrics(*errors([1.0, 80.0]), valid)
    assert metrics.region_metrics(flow, truth, {"all": valid})["all.f1_all"] == 0.0


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_truth_that_is_not_a_number_is_refused_where_it_is_valid(value: float) -> None:
    flow, truth = errors([0.0, 0.0])
    truth[1, 0, 1] = value
    valid = torch.ones(1, 2, dtype=torch.bool)
    for measure in (sample_metrics, lambda *of: released_metrics(*(tensor[None] for tensor in of))):
        with pytest.raises(ValueError, match="target: expected finite motion at valid pixels, got 1 that are not"):
            measure(flow, truth, valid)
