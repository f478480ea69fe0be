"""The fitted sine: the release's demonstration, and the delta rule on what it learns."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.flow.interrupted import Interrupt, Interrupted
from tests.flow.test_parity_delta import recorded
from tests.jobs import run
from torch import nn

import deq_core as deq
from deq_core.experiment.config.delta import Rule
from deq_core.experiment.config.layer import LayerConfig, StopConfig
from deq_core.experiment.config.optim import Every, OptimConfig
from deq_core.experiment.data.arrays import read_arrays
from deq_core.experiment.tables import numbers, read_rows
from deq_core.experiment.tracking.run import ignore
from deq_flow.studies.delta.sine import SINE, Fit, Sine, SineModel, points, random_probes, study, train

RELEASED = Sine(
    steps=51,
    optim=OptimConfig(name="adam", lr=0.01),
    rules={"seen": Rule(thresholds=(0.01, 0.1)), "sent": Rule(thresholds=(0.01,), reference="sent")},
    every=Every(checkpoint=51),
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[SineModel, list[dict[str, float]]]:
    return train(RELEASED, seed=0, scratch=tmp_path_factory.mktemp("scratch"), log=ignore)


def test_the_first_fifty_updates_are_those_of_the_release(trained: tuple[SineModel, Any]) -> None:
    """Later values of its log depend on how sums are rounded, and differ between its own runs."""
    _, history = trained
    for update, loss, norm in recorded()["fitting_sine"]["log"][:2]:
        row = history[update]
        assert row["loss"] == pytest.approx(loss, rel=1e-4)
        assert row["norm"] == pytest.approx(norm, rel=1e-4)


def test_a_step_is_that_of_a_recurrent_cell(trained: tuple[SineModel, Any]) -> None:
    model, _ = trained
    reference = nn.RNNCell(1, 20)
    with torch.no_grad():
        for side, layer in (("ih", model.cell.injected), ("hh", model.cell.recurrent)):
            for name in ("weight", "bias"):
                reference.get_parameter(f"{name}_{side}").copy_(layer.get_parameter(name))
        x, _ = points(7)
        hidden, states = torch.zeros(7, 20), model.states(x, 4)
        for state in states:
            hidden = reference(x, hidden)
            torch.testing.assert_close(state, hidden)


def test_tables_tell_of_the_same_solve(trained: tuple[SineModel, Any]) -> None:
    model, _ = trained
    tables = study(model, RELEASED, random_probes(RELEASED, 0))
    x, y = points(RELEASED.points)
    with torch.no_grad():
        error = float((model.output(model.states(x, 15)[-1]) - y).square().mean())
    assert numbers(tables["steps"], "mse")[-1] == pytest.approx(error)
    assert len(tables["steps"]) == 15
    for criterion in ("first", "lasting"):
        units = [row for row in tables["histogram"] if row["criterion"] == criterion]
        assert sum(numbers(units, "units")) == pytest.approx(20)
    sweep = tables["sweep"]
    last = [row for row in sweep if row["max_steps"] == 15]
    exact = numbers([row for row in last if row["threshold"] == 0], "mse")
    assert exact[0] + exact[1] == pytest.approx(2 * error, rel=1e-3)  # of validation and of test, half the points each
    ways = [(row["variant"], row["threshold"]) for row in last if row["split"] == "test"]
    assert ways == [("exact", 0.0), ("seen", 0.01), ("seen", 0.1), ("sent", 0.01)]
    saved = numbers([row for row in last if row["split"] == "test"], "macs_saved")
    assert saved[0] < saved[1] < saved[2]
    assert numbers(tables["components"], "cumulative")[-1] == pytest.approx(1)


def test_what_is_sent_is_counted(trained: tuple[SineModel, Any]) -> None:
    """With nothing but the first step sent, one step's products of the recurrent layer remain."""
    model, _ = trained
    config = replace(RELEASED, rules={"seen": Rule(thresholds=(1e9,))})
    row = study(model, config, random_probes(config, 0))["sweep"][-1]
    assert row["threshold"] == 1e9
    assert row["macs_dense"] == 15 * 200 * 20 * 20
    assert row["macs_sparse"] == 200 * 20 * 20


def test_an_equilibrium_stays_right_after_the_steps_it_was_trained_with(tmp_path: Path) -> None:
    solve = LayerConfig(
        solver=deq.FixedPointIteration(), stop=StopConfig(max_steps=20, tol=1e-3), adjoint=deq.Phantom(steps=4)
    )
    config = replace(RELEASED, layer=solve, steps=150, evaluations=30, every=Every(checkpoint=150))
    model, _ = train(config, seed=0, scratch=tmp_path, log=ignore)
    errors = numbers(study(model, config, random_probes(config, 0))["steps"], "mse")
    assert errors[-1] < 0.05  # a tenth of the sine's variance
    assert errors[-1] == pytest.approx(errors[19], rel=0.05)


def test_a_fit_leaves_its_tables_and_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    config = replace(RELEASED, steps=4, every=Every(checkpoint=2))
    case = Fit("release", 1)
    metrics = run(SINE, case, config, tmp_path / "a", scratch=tmp_path / "s1")
    with pytest.raises(Interrupted):
        run(SINE, case, config, tmp_path / "b", scratch=tmp_path / "s2", log=Interrupt(3))
    run(SINE, case, config, tmp_path / "b", scratch=tmp_path / "s2")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name
    assert numbers(read_rows(tmp_path / "a" / "history.csv"), "step") == [1, 2, 3, 4]
    assert metrics["mse"] == numbers(read_rows(tmp_path / "a" / "steps.csv"), "mse")[-1]
    assert read_arrays(tmp_path / "a" / "states.npz")["predictions"].shape == (4, 200)
