"""What the loop spares itself changes nothing."""

from dataclasses import replace

import pytest
import torch

import deq_core as deq
from deq_core._solve.convergence import Convergence
from deq_core._solve.norms import two_norm

SOLVERS = [deq.Anderson(), deq.Anderson(window=3, damping=0.2), deq.Broyden(), deq.Broyden(memory=4)]


def problem():
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(40, 40, generator=generator)
    inject = torch.randn(5, 40, generator=generator)
    weight = 0.8 * weight / torch.linalg.matrix_norm(weight, 2)
    return lambda z: torch.tanh(z @ weight.T + inject), torch.zeros_like(inject)


class WithoutRow:
    """A solver that keeps what f(z) - z is to itself."""

    def __init__(self, solver):
        self.solver = solver

    def init(self, z, max_steps):
        return self.solver.init(z, max_steps)

    def step(self, z, fz, state):
        return self.solver.step(z, fz, state)


def assert_same(found, wanted):
    assert found.value.equal(wanted.value)
    assert found.trace.equal(wanted.trace)
    assert found.steps.equal(wanted.steps)


@pytest.mark.parametrize("tol", [None, 1e-5, 0.0])
@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
@torch.no_grad()
def test_a_residual_written_into_the_solvers_memory_changes_no_bit(solver, tol):
    f, z0 = problem()
    stop = deq.Stop(14, tol)
    shared = deq.fixed_point(f, z0, solver=solver, stop=stop, on_failure="ignore")
    alone = deq.fixed_point(f, z0, solver=WithoutRow(solver), stop=stop, on_failure="ignore")
    assert_same(shared, alone)


@pytest.mark.parametrize("solver", SOLVERS, ids=repr)
@torch.no_grad()
def test_a_norm_that_writes_into_its_argument_does_not_reach_the_solvers_memory(solver):
    f, z0 = problem()

    def destructive(x):
        length = two_norm(x)
        if x is not image:
            x.zero_()
        return length

    image = None

    def watched(z):
        nonlocal image
        image = f(z)
        return image

    stop = deq.Stop(12, None, relative=False)
    found = deq.fixed_point(watched, z0, solver=solver, stop=replace(stop, norm=destructive))
    assert_same(found, deq.fixed_point(f, z0, solver=solver, stop=stop))


@torch.no_grad()
def test_shine_finds_its_steps_where_the_solve_ended_on_a_full_memory():
    f, z0 = problem()
    weight = torch.ones((), requires_grad=True)
    stop = deq.Stop(8, None)
    with torch.enable_grad():
        gradients = [
            torch.autograd.grad(
                deq.fixed_point(lambda z: weight * f(z), z0, solver=solver, stop=stop, adjoint=deq.SHINE()).value.sum(),
                weight,
            )[0]
            for solver in (deq.Broyden(), deq.Broyden(memory=7), deq.Broyden(memory=20))
        ]
    assert gradients[0].equal(gradients[1])
    assert gradients[0].equal(gradients[2])


def judged_one_by_one(residuals, tol):
    """Lowest residual, its evaluation and whether the sample goes on, for one sample's residuals."""
    lowest, step = float("inf"), 0
    for evaluation, residual in enumerate(residuals, 1):
        if residual < lowest:
            lowest, step = residual, evaluation
        if not residual < float("inf") or (tol is not None and residual <= tol):
            return lowest, step, False
    return lowest, step, True


INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize("copies", [1, 100])  # the host judges a few samples, torch many
@pytest.mark.parametrize("look", [True, False])
@pytest.mark.parametrize("tol", [None, 0.1])
@pytest.mark.parametrize(
    "columns",
    [
        [[0.9, 0.8, 0.7, 0.6], [0.5, 0.4, 0.3, 0.2]],
        [[0.9, 0.8, 0.7, 0.6], [0.5, 0.05, 0.3, 0.01]],
        [[0.9, 0.8, 0.85, 0.6], [0.5, 0.4, 0.3, 0.2]],
        [[0.9, 0.8, NAN, 0.6], [0.5, INF, 0.3, 0.2]],
        [[NAN, 0.8, 0.7, 0.6], [0.5, 0.4, 0.3, 0.3]],
    ],
)
def test_every_sample_is_judged_as_if_it_were_alone(columns, tol, look, copies):
    residuals = torch.tensor(columns * copies).T
    convergence = Convergence(torch.zeros(2 * copies, 3), tol, look=look)
    for residual in residuals:
        convergence.judge(residual)
    for row, column in enumerate(columns * copies):
        lowest, step, going = judged_one_by_one(residuals[:, row].tolist(), tol)
        assert (float(convergence.lowest[row]), int(convergence.steps()[row])) == (lowest, step), column
        assert bool(convergence.active[row]) is going
    converged = convergence.lowest <= tol if tol else torch.zeros(2 * copies, dtype=torch.bool)
    assert torch.equal(convergence.outcome().converged, converged)
    assert convergence.missed == (int(converged.logical_not().sum()) if tol and look else None)


@pytest.mark.parametrize("copies", [1, 200])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_residual_equal_to_the_tolerance_as_its_dtype_has_it_has_arrived(dtype, copies):
    convergence = Convergence(torch.zeros(copies, 3, dtype=dtype), 0.1, look=True)
    assert convergence.judge(torch.full((copies,), 0.1, dtype=dtype)) == (copies, 0)
    assert convergence.outcome().converged.all()


def test_a_tally_counts_who_improved_and_who_goes_on():
    convergence = Convergence(torch.zeros(3, 2), 0.1, look=True)
    counts = [convergence.judge(torch.tensor(row)) for row in ([3.0, 3, 3], [2.0, 4, 0.05], [1.0, 2, 9], [0.1, 0.1, 0])]
    assert counts == [(3, 3), (2, 2), (2, 2), (2, 0)]
    assert convergence.trace[2].tolist()[2] == pytest.approx(0.05)
