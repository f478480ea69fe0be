"""How each sample of a solve ended, and what is said where a tolerance was missed."""

import sys
import warnings
from typing import Any

import pytest
import torch
from torch import nn

import deq_core as deq

PLAIN = deq.FixedPointIteration()
SLOPE = torch.tensor([[0.5], [-1.0], [0.9], [0.5]], dtype=torch.float64)


def four_ways(z):
    """Converges, alternates, is infinite soon, and is no number at once."""
    broken = torch.tensor([[0.0], [0.0], [2.0], [torch.nan]], dtype=torch.float64)
    return torch.where(z.abs() > 1, torch.where(broken > 1, torch.inf, SLOPE * z + 1), SLOPE * z + 1 + broken)


def solve(f: Any = four_ways, **options) -> deq.Solution:
    options = {"solver": PLAIN, "stop": deq.Stop(30, 1e-6), "on_failure": "ignore", **options}
    return deq.fixed_point(f, torch.zeros(4, 1, dtype=torch.float64), **options)


def masks(outcome: deq.Outcome) -> torch.Tensor:
    ways = (outcome.converged, outcome.out_of_steps, outcome.not_finite, outcome.rejected, outcome.stopped_early)
    return torch.stack(ways)


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize(
    "adjoint", [deq.Implicit(), deq.Phantom(), deq.Unrolled(), deq.JacobianFree()], ids=lambda one: one.kind
)
def test_an_outcome_prints_and_selects_samples(adjoint, grad):
    with torch.set_grad_enabled(grad):
        solution = solve(adjoint=adjoint)
    assert list(solution.outcome) == ["converged", "out of steps", "not finite", "not finite"]
    assert repr(solution.outcome) == "Outcome(1 converged, 1 out of steps, 2 not finite)"
    assert solution.converged.tolist() == solution.outcome.converged.tolist() == [True, False, False, False]
    assert (solution.residual[solution.outcome.converged] <= 1e-6).all()
    assert solution.residual[solution.outcome.out_of_steps].isfinite().all()
    assert solution.steps[2] > 0, "its best state was found before it failed"
    assert solution.describe().startswith("1 of 4 samples converged in 20 steps, 1 out of steps, 2 not finite:")
    assert (masks(solution.outcome).sum(0) == 1).all()


def test_without_a_tolerance_a_finite_sample_is_out_of_steps():
    outcome = solve(stop=deq.Stop(30, None)).outcome
    assert list(outcome) == ["out of steps", "out of steps", "not finite", "not finite"]


def test_another_f_may_reject_what_has_converged():
    f, check = (lambda z: z / 2 + 1), (lambda z: torch.tensor([[0.5], [0.5], [0.6], [0.6]]).double() * z + 1)
    outcome = solve(f, check=check).outcome
    assert list(outcome) == ["converged", "converged", "rejected by check", "rejected by check"]
    assert (masks(outcome).sum(0) == 1).all()


@pytest.mark.parametrize(
    ("f", "end"),
    [
        (lambda z: z / 2 + 1, "converged"),
        (lambda z: z + 10 * torch.exp(z), "out of steps"),
        (lambda z: z * torch.nan, "not finite"),
        (torch.exp, "stopped early"),
    ],
)
def test_the_released_rules_end_for_the_whole_batch(f, end):
    solution = deq.compat.released_fixed_point(f, torch.zeros(2, 3), stop=deq.Stop(30, 1e-9))
    assert list(solution.outcome) == [end, end]
    assert (masks(solution.outcome).sum(0) == 1).all()


def test_a_missed_tolerance_is_warned_about_by_default_ignored_or_raised():
    said = r"3 of 4 samples did not reach a residual of 1e-06 in 30 steps \(1 out of steps, 2 not finite; residual up"
    options = {"solver": PLAIN, "stop": deq.Stop(30, 1e-6)}
    z0 = torch.zeros(4, 1, dtype=torch.float64)
    with pytest.warns(deq.ConvergenceWarning, match=said) as record:
        deq.fixed_point(four_ways, z0, **options)
    assert record[0].filename == __file__
    with pytest.warns(deq.ConvergenceWarning, match=said):
        deq.nn.DEQ(**options)(four_ways, z0)
    solve(on_failure="ignore")
    with pytest.raises(deq.ConvergenceError, match=said):
        solve(on_failure="raise")


def test_the_backward_solve_warns_by_default_at_the_line_that_asks_for_the_gradient():
    weight = torch.tensor(0.9, requires_grad=True)
    adjoint = deq.Implicit(PLAIN, deq.Stop(2, 1e-6))
    solution = deq.fixed_point(lambda z: weight * z + 1, torch.zeros(2, 1), adjoint=adjoint)
    line = sys._getframe().f_lineno + 2
    with pytest.warns(deq.ConvergenceWarning, match="2 of 2 samples of a backward pass did not reach") as record:
        solution.value.sum().backward()
    assert (record[0].filename, record[0].lineno) == (__file__, line)


@pytest.mark.parametrize(("tol", "said"), [(0.1, False), (0.01, True)])
def test_the_backward_solve_warns_of_a_tolerance_that_was_missed_tenfold(tol, said):
    """One step of u = u / 2 + 1 from 1 leaves a residual of a third."""
    adjoint = deq.Implicit(PLAIN, deq.Stop(1, tol))
    weight = torch.tensor(0.5, requires_grad=True)
    value = deq.fixed_point(lambda z: weight * z + 1, torch.zeros(1, 1), solver=PLAIN, adjoint=adjoint).value
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("always")
        value.sum().backward()
    assert [warning.category for warning in record] == [deq.ConvergenceWarning] * said


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = deq.nn.DEQ(solver=PLAIN, stop=deq.Stop(3, 1e-6))

    def forward(self, slope: float) -> torch.Tensor:
        return self.layer(lambda z: slope * z + 1, torch.zeros(2, 1)).value


def test_a_line_warns_once_whatever_the_numbers():
    net = Net()
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter("default")
        for slope in (0.7, 0.8, 0.9):
            net(slope)
        assert len(record) == 1
        for slope in (0.7, 0.8):
            deq.fixed_point(lambda z: slope * z + 1, torch.zeros(2, 1), solver=PLAIN)  # noqa: B023  solved at once
        warnings.simplefilter("always")
        net(0.9)
        net(0.9)
    assert len(record) == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(deq.ConvergenceWarning):
            net(0.9)


def test_without_a_tolerance_only_raise_asks_for_finite_samples():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solve(stop=deq.Stop(5, None), on_failure="warn")
    with pytest.raises(deq.ConvergenceError, match=r"2 of 4 samples did not reach a finite residual in 5 steps"):
        solve(stop=deq.Stop(5, None), on_failure="raise")


@pytest.mark.parametrize("batch", [2, 300])
@pytest.mark.parametrize("solver", [PLAIN, deq.Anderson()], ids=repr)
def test_the_loop_knows_how_many_missed_without_another_look(batch, solver, monkeypatch):
    """So a solve that converges does not wait for the device once more."""
    looks = []
    monkeypatch.setattr(torch.Tensor, "__bool__", lambda self: looks.append(self) or self.item())
    monkeypatch.setattr(torch.Tensor, "__int__", lambda self: looks.append(self) or self.item())
    z0, counts = torch.zeros(batch, 3), []
    for on_failure in ("ignore", "warn", "raise"):
        looks.clear()
        with torch.no_grad():
            assert deq.fixed_point(lambda z: z / 2 + 1, z0, solver=solver, on_failure=on_failure).converged.all().item()
        counts.append(len(looks))
    assert len(set(counts)) == 1
