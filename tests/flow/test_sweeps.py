"""A sweep's points are what separate solves with those iterations and tolerances give."""

import json
from pathlib import Path
from typing import Literal

import pytest
import torch
from tests.flow.small import equilibrium, unrolled, write_kitti_set, write_sintel

import deq_core as deq
from deq_core.experiment.config.layer import Solver, StopConfig
from deq_core.experiment.tables import numbers, read_rows
from deq_core.experiment.tracking.run import ignore
from deq_flow.evaluation.evaluate import labelled_sets
from deq_flow.evaluation.published import measure_checkpoint
from deq_flow.evaluation.sweeps import first_below, summary, sweep_rows
from deq_flow.inference import Estimator
from deq_flow.inference_params import Inference, Measure, Sweep
from deq_flow.metrics import sample_metrics

LAST = 8


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_kitti_set(write_sintel(tmp_path_factory.mktemp("data")))


def tolerances(solver: Solver, root: Path) -> tuple[float, float, float]:
    """Of which the first sample reaches the first at once, the second midway and the last never."""
    pairs = labelled_sets(root, ["sintel_clean"])["sintel_clean"]
    estimate = Estimator(equilibrium(), Inference(solver=solver, stop=StopConfig(max_steps=LAST)))
    solution = estimate(pairs[0].image1[None], pairs[0].image2[None]).solution
    assert solution is not None
    lowest = solution.trace[:, 0].cummin(0).values
    assert lowest[3] < lowest[0]
    # not the residual itself, whose last bit depends on how many samples are solved together
    return 2.0 * float(lowest[0]), 1.001 * float(lowest[3]), 0.5 * float(lowest[-1])


@pytest.mark.parametrize("solver", [deq.FixedPointIteration(), deq.Anderson(window=3)])
def test_points_are_what_separate_solves_give(solver: Solver, root: Path) -> None:
    network = equilibrium()
    sets = labelled_sets(root, ["sintel_clean"])
    sweep = Sweep(solver=solver, iterations=(1, 3, LAST), tolerances=tolerances(solver, root))
    rows = list(sweep_rows(network, Measure(sweeps={"a": sweep}, batch_size=3), sets))
    assert len(rows) == 5 * 6
    for index, sample in enumerate(sets["sintel_clean"][i] for i in range(5)):
        mine = [row for row in rows if row["name"] == sample.name]
        assert len(mine) == 6
        for row in mine:
            at = numbers([row], "at")[0]
            fixed = row["axis"] == "iterations"
            stop = StopConfig(max_steps=int(at)) if fixed else StopConfig(max_steps=LAST, tol=at)
            output = Estimator(network, Inference(solver=solver, stop=stop))(sample.image1[None], sample.image2[None])
            assert output.solution is not None
            expected = sample_metrics(output.flow[0], sample.flow, sample.valid)
            assert row["epe"] == pytest.approx(expected["epe"], rel=1e-4)
            assert row["iterations"] == (at if fixed else len(output.solution.trace))
            assert row["residual"] == pytest.approx(float(output.solution.residual), rel=1e-3)
            assert fixed or row["converged"] == float(output.solution.converged)
        if index == 0:
            reached = [row["converged"] for row in mine if row["axis"] == "tolerance"]
            assert reached == [1.0, 1.0, 0.0]


def test_a_tolerance_is_reached_at_the_first_evaluation_below_it() -> None:
    lowest = torch.tensor([0.5, 0.2, 0.2, 0.1])
    assert [first_below(lowest, tolerance) for tolerance in (0.6, 0.5, 0.3, 0.2, 0.1, 0.05)] == [1, 1, 2, 2, 4, 4]


def test_an_unrolled_network_has_iterations_alone(root: Path) -> None:
    sweep = Sweep(iterations=(2, 4), tolerances=(0.1,))
    rows = list(sweep_rows(unrolled(), Measure(sweeps={"a": sweep}), labelled_sets(root, ["kitti"])))
    assert [(row["axis"], row["at"]) for row in rows] == 2 * [("iterations", 2), ("iterations", 4)]
    assert "residual" not in rows[0]


def test_sweeps_are_joined_by_the_protocol_of_their_set(root: Path) -> None:
    sweeps = {"a": Sweep(iterations=(2,)), "b": Sweep(solver=deq.Anderson(), iterations=(2, 4), tolerances=(1e-9,))}
    sets = labelled_sets(root, ["kitti", "sintel_clean"])
    rows = list(sweep_rows(equilibrium(), Measure(sweeps=sweeps, batch_size=2), sets))
    joined = summary(rows)
    assert list(joined["b"]["kitti"]) == ["iterations 2", "iterations 4", "tolerance 1e-09"]
    of_kitti = [row for row in rows if row["sweep"] == "a" and row["set"] == "kitti"]
    epe, pixels = numbers(of_kitti, "epe"), numbers(of_kitti, "pixels")
    assert joined["a"]["kitti"]["iterations 2"]["epe"] == pytest.approx(sum(epe) / 2)
    of_all = sum(n * value for n, value in zip(pixels, numbers(of_kitti, "f1_all"), strict=True)) / sum(pixels)
    assert joined["a"]["kitti"]["iterations 2"]["f1_all"] == pytest.approx(of_all)
    assert joined["b"]["sintel_clean"]["tolerance 1e-09"]["converged"] == 0


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_checkpoint_is_measured_into_tables(
    precision: Literal["float32", "bfloat16"], root: Path, tmp_path: Path
) -> None:
    choice = Measure(
        inference=Inference(stop=StopConfig(max_steps=3, tol=1e-9), precision=precision),
        sweeps={"own": Sweep(iterations=(1, 3))},
    )
    out = tmp_path / "out"
    names = ("sintel_final", "kitti")
    values = measure_checkpoint(equilibrium(), choice, names, root=root, out=out, log=ignore)
    rows = read_rows(out / "samples.csv")
    assert [row["set"] for row in rows] == 5 * ["sintel_final"] + 2 * ["kitti"]
    assert numbers(rows, "converged") == 7 * [0.0]
    written = json.loads((out / "metrics.json").read_text())
    assert written["kitti"]["f1_all"] == pytest.approx(values["kitti.f1_all"])
    swept = json.loads((out / "sweeps.json").read_text())
    assert swept["own"]["sintel_final"]["iterations 3"]["epe"] == pytest.approx(values["sintel_final.epe"], rel=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"iterations": ()}, "iterations: expected ascending"),
        ({"iterations": (3, 2)}, "iterations: expected ascending"),
        ({"iterations": (1,), "tolerances": (0.0,)}, "tolerances: expected numbers above 0"),
    ],
)
def test_a_sweep_that_cannot_be_is_refused(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Sweep(**change)
