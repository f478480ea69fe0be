"""`released_fixed_point` retraces the solvers of locuslab/deq, and keeps the rules its docstring states.

The recorded runs are of the problem of `test_parity`; their residuals are norms over the whole batch.
"""

import json
from pathlib import Path

import pytest
import torch
from tests.core.test_parity import Golden

import deq_core as deq

RUNS = json.loads((Path(__file__).parents[1] / "golden" / "solver_released.json").read_text())
ANDERSON = deq.Anderson(window=6, ridge=1e-4, relative_ridge=False)
SOLVERS = [deq.Broyden(), ANDERSON, deq.FixedPointIteration()]
EXACT = deq.Stop(200, 1e-13)


@pytest.fixture
def golden():
    return Golden()


def solved(golden, solver, stop, **choices):
    return deq.compat.released_fixed_point(golden.f, golden.z0, solver=solver, stop=stop, **choices)


@pytest.mark.parametrize("name", RUNS)
def test_the_released_runs_are_retraced(golden, name):
    run = RUNS[name]
    relative = run["kwargs"]["stop_mode"] == "rel"
    stop = deq.Stop(run["kwargs"]["threshold"], run["kwargs"]["eps"], relative=relative)
    with torch.no_grad():
        solution = solved(golden, deq.Broyden() if name.startswith("broyden") else ANDERSON, stop)
    expected = torch.tensor(run["rel_trace" if relative else "abs_trace"], dtype=torch.float64)[: len(solution.trace)]
    assert solution.nfe == run["f_calls"]
    # At rounding level the steps of two programs part.
    settled = expected < 1e-12
    torch.testing.assert_close(solution.trace[:, 0][~settled], expected[~settled], rtol=1e-3, atol=0)
    torch.testing.assert_close(solution.trace[:12, 0], expected[:12], rtol=1e-8, atol=0)
    assert solution.residual[0].item() == pytest.approx(run["lowest"], rel=1e-6, abs=1e-14)
    if not settled.any():
        assert solution.steps.tolist() == [run["nstep"]] * 4
    torch.testing.assert_close(solution.value, torch.tensor(run["z"], dtype=torch.float64), rtol=0, atol=1e-10)


@pytest.mark.parametrize("solver", [deq.Broyden(), deq.Anderson(), deq.FixedPointIteration()])
def test_a_converged_solve_is_that_of_fixed_point(golden, solver):
    with torch.no_grad():
        ours = deq.fixed_point(golden.f, golden.z0, stop=EXACT).value
        theirs = solved(golden, solver, deq.Stop(400, 1e-13)).value
    torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-12)


def test_gradients_of_a_converged_solve_are_exact(golden):
    adjoint = deq.Implicit(solver=deq.Broyden(), stop=deq.Stop(100, 1e-14))
    solution = solved(golden, deq.Broyden(), deq.Stop(100, 1e-14), adjoint=adjoint)
    exact = deq.fixed_point(golden.f, golden.z0, stop=EXACT, adjoint=deq.Implicit(stop=EXACT))
    expected = torch.autograd.grad((exact.value * golden.c).sum(), [golden.W, golden.x])
    torch.testing.assert_close(
        torch.autograd.grad((solution.value * golden.c).sum(), [golden.W, golden.x]), expected, rtol=1e-9, atol=1e-11
    )


def test_the_value_is_the_image_where_autograd_records_and_the_state_where_not(golden):
    stop = deq.Stop(3, None)
    recorded = solved(golden, deq.Broyden(), stop)
    with torch.no_grad():
        plain = solved(golden, deq.Broyden(), stop)
        torch.testing.assert_close(recorded.argument, plain.value, rtol=0, atol=0)
        torch.testing.assert_close(recorded.value, golden.f(plain.value), rtol=0, atol=0)
    assert (plain.nfe, recorded.nfe) == (4, 5)
    assert not torch.equal(recorded.value, plain.value)


def test_the_jacobian_of_a_stopped_solve_is_taken_at_the_state_found(golden):
    stop = deq.Stop(2, None)
    adjoint = deq.Implicit(solver=deq.Broyden(), stop=deq.Stop(100, 1e-14))
    solution = solved(golden, deq.Broyden(), stop, adjoint=adjoint)
    found = torch.autograd.grad((solution.value * golden.c).sum(), golden.b)[0]
    z = solution.argument.detach().requires_grad_()
    fz = golden.f(z)
    jacobian = torch.stack([torch.autograd.grad(fz[:, i].sum(), z, retain_graph=True)[0] for i in range(32)], dim=1)
    adjoint_state = torch.linalg.solve(torch.eye(32) - jacobian.mT, golden.c[:, :, None])[:, :, 0]
    torch.testing.assert_close(found, ((1 - fz**2) * adjoint_state).sum(0), rtol=1e-9, atol=1e-11)


def test_unrolling_differentiates_what_was_computed(golden):
    def value(w, solver):
        golden.W = w
        return solved(golden, solver, deq.Stop(4, None), adjoint=deq.Unrolled()).value

    for solver in SOLVERS:
        # The Jacobian's product with one direction, against the difference quotient.
        weight = golden.W.detach().clone().requires_grad_()
        direction = torch.ones_like(weight)
        gradient = torch.autograd.grad((value(weight, solver) * golden.c).sum(), weight)[0]
        with torch.enable_grad():
            high, low = (value(weight.detach() + step * direction, solver) for step in (1e-5, -1e-5))
        quotient = ((high - low) * golden.c).sum() / 2e-5
        assert (gradient * direction).sum().item() == pytest.approx(quotient.item(), rel=1e-6), solver


def test_plain_iteration_returns_the_last_application_even_where_it_grows_worse():
    with torch.no_grad():
        stop = deq.Stop(3, None, relative=False)
        solution = deq.compat.released_fixed_point(
            lambda z: -2 * z, torch.ones(1, 2), solver=deq.FixedPointIteration(), stop=stop
        )
        best = deq.fixed_point(lambda z: -2 * z, torch.ones(1, 2), solver=deq.FixedPointIteration(), stop=stop)
    assert solution.value.tolist() == [[-8.0, -8.0]]
    assert solution.nfe == 3
    assert best.value.tolist() == [[-2.0, -2.0]]
    assert solution.residuals(4).squeeze(1).tolist() == pytest.approx([3 * 2**0.5 * k for k in (1, 2, 4, 4)])
    assert best.residuals(4).squeeze(1).tolist() == pytest.approx([3 * 2**0.5] * 4)


@pytest.mark.parametrize("solver", SOLVERS)
def test_recorded_states_are_those_of_shorter_solves(golden, solver):
    with torch.no_grad():
        whole = solved(golden, solver, deq.Stop(8, None), record=(3, 5))
        for steps, found in zip((3, 5), whole.trajectory, strict=True):
            torch.testing.assert_close(found, solved(golden, solver, deq.Stop(steps, None)).value, rtol=0, atol=0)


def test_recorded_states_survive_early_convergence(golden):
    with torch.no_grad():
        solution = solved(golden, deq.Broyden(), deq.Stop(60, 1e-3), record=(2, 50, 60))
    assert len(solution.trajectory) == 3
    assert torch.equal(solution.trajectory[2], solution.value)


def test_broyden_ends_when_the_residual_explodes():
    with torch.no_grad():
        calls = []

        def f(z):
            calls.append(z)
            return z * 1e4 ** len(calls)

        solution = deq.compat.released_fixed_point(f, torch.ones(2, 3), stop=deq.Stop(50, None, relative=False))
    assert solution.nfe < 10
    assert solution.value.isfinite().all()


def test_a_state_that_is_not_finite_is_never_returned(golden):
    calls = []

    def f(z):
        calls.append(z)
        return golden.f(z) if len(calls) < 4 else torch.full_like(z, torch.nan)

    with torch.no_grad():
        solution = deq.compat.released_fixed_point(f, golden.z0, stop=deq.Stop(20, 1e-9))
    assert solution.value.isfinite().all()
    assert solution.nfe == 4
    assert not solution.converged.any()


def test_what_the_release_cannot_do_is_refused(golden):
    with pytest.raises(ValueError, match="released rules are those of Broyden"):
        solved(golden, deq.GMRES(), deq.Stop(5))
    with pytest.raises(ValueError, match="nothing before step 3"):
        solved(golden, ANDERSON, deq.Stop(2))
    with pytest.raises(ValueError, match="nothing before step 3"):
        solved(golden, ANDERSON, deq.Stop(9), record=(1, 4))
    with pytest.raises(ValueError, match="record asks for step 9"):
        solved(golden, deq.Broyden(), deq.Stop(5), record=(9,))
