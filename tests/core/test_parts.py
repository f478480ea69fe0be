"""Residuals, norms and tolerances by part of a state."""

from dataclasses import replace

import pytest
import torch

import deq_core as deq

PLAIN = deq.FixedPointIteration()
BOTH = deq.Stop(parts=(deq.Part(1e-3), deq.Part(0.02, relative=False, norm=deq.max_norm)))


def pair(hidden, flow):
    """Large and quick, beside small and slow; the second sample begins at its solution's flow."""
    return 0.3 * hidden + 70, 0.9 * flow + 0.1 * torch.tensor([5.0, 1.0])


START = torch.zeros(2, 6), torch.tensor([[0.0, 0.0], [5.0, 1.0]])


def iterates(steps):
    """z and f(z) of each plain step."""
    z, found = START, []
    for _ in range(steps):
        fz = pair(*z)
        found.append((z, fz))
        z = fz
    return found


@pytest.mark.parametrize("solver", [PLAIN, deq.Anderson(), deq.Anderson(damping=0.2), deq.Broyden()], ids=repr)
@pytest.mark.parametrize("norm", [deq.two_norm, deq.max_norm, lambda x: x.abs().sum(1)])
@pytest.mark.parametrize("relative", [True, False])
@torch.no_grad()
def test_one_part_is_the_whole_state_bit_by_bit(solver, norm, relative):
    generator = torch.Generator().manual_seed(0)
    weight = 0.12 * torch.randn(30, 30, generator=generator)
    inject = torch.randn(5, 30, generator=generator)
    f = lambda z: torch.tanh(z @ weight.T + inject)  # noqa: E731
    whole = deq.Stop(20, 3e-4, relative, norm)
    parts = deq.Stop(20, parts=(deq.Part(3e-4, relative, norm),))
    one, other = [
        deq.fixed_point(f, 0 * inject, solver=solver, stop=stop, record=(3, 9), on_failure="ignore")
        for stop in (whole, parts)
    ]
    assert one.value.equal(other.value)
    assert all(a.equal(b) for a, b in zip(one.trajectory, other.trajectory, strict=True))
    assert one.steps.equal(other.steps)
    assert one.outcome.code.equal(other.outcome.code)
    assert one.parts is None
    assert other.parts is not None
    assert one.residual.equal(other.parts[:, 0])
    torch.testing.assert_close(other.residual * 3e-4, one.residual)


def test_a_sample_ends_when_every_part_is_within_its_own_tolerance():
    sol = deq.fixed_point(pair, START, solver=PLAIN, stop=BOTH)
    by_step = []
    for z, fz in iterates(60):
        hidden, flow = [there - here for there, here in zip(fz, z, strict=True)]
        by_step.append(torch.stack([hidden.norm(dim=1) / fz[0].norm(dim=1), flow.abs().amax(1)], 1))
    residuals = torch.stack(by_step)
    within = (residuals <= torch.tensor([1e-3, 0.02])).all(2)
    assert sol.steps.tolist() == [1 + within[:, i].int().argmax().item() for i in range(2)]
    assert sol.steps[0] > sol.steps[1] + 10
    assert sol.converged.all()
    assert sol.parts is not None
    torch.testing.assert_close(sol.parts, residuals[sol.steps - 1, torch.arange(2)])
    torch.testing.assert_close(sol.residual, (sol.parts / torch.tensor([1e-3, 0.02])).amax(1))
    torch.testing.assert_close(sol.trace[:9, 0], (residuals[:9, 0] / torch.tensor([1e-3, 0.02])).amax(1))
    hidden_alone = deq.fixed_point(pair, START, solver=PLAIN, stop=deq.Stop(parts=(deq.Part(1e-3), deq.Part(None))))
    assert (hidden_alone.steps < 10).all()
    assert "by part" in sol.describe()
    assert "residual_part1" in deq.nn.summarize(sol)


def test_without_a_tolerance_parts_are_measured_for_exactly_max_steps():
    sol = deq.fixed_point(pair, START, solver=PLAIN, stop=replace(BOTH, max_steps=60, tol=None))
    assert len(sol.trace) == 60
    assert not sol.converged.any()
    limited = deq.fixed_point(pair, START, solver=PLAIN, stop=replace(BOTH, max_steps=5), on_failure="ignore")
    assert sol.trace[:5, 0].equal(limited.trace[:, 0])
    assert limited.outcome[0] == "out of steps"


def test_a_part_that_is_not_asked_for_must_still_be_finite():
    f = lambda a, b: (0.1 * a, b * torch.tensor([[1.0], [torch.nan]]))  # noqa: E731
    stop = deq.Stop(parts=(deq.Part(1e-3, relative=False), deq.Part(None)))
    sol = deq.fixed_point(f, (torch.ones(2, 3), torch.ones(2, 1)), solver=PLAIN, stop=stop, on_failure="ignore")
    assert list(sol.outcome) == ["converged", "not finite"]
    assert sol.parts is not None
    assert sol.parts[1].isinf().all()


def test_a_ratio_beyond_the_largest_number_is_not_a_failure():
    stop = deq.Stop(3, parts=(deq.Part(1e-30, relative=False),))
    sol = deq.fixed_point(lambda z: 0.5 * z, torch.full((1, 3), 1e20), solver=PLAIN, stop=stop, on_failure="ignore")
    assert sol.outcome.out_of_steps.all()
    assert sol.residual.isfinite().all()


def test_a_check_is_judged_by_part_as_well():
    off = lambda hidden, flow: (pair(hidden, flow)[0], flow + 0.5)  # noqa: E731
    sol = deq.fixed_point(pair, START, solver=PLAIN, stop=BOTH, check=off, on_failure="ignore")
    assert sol.outcome.rejected.all()
    assert sol.parts is not None
    torch.testing.assert_close(sol.parts[:, 1], torch.full((2,), 0.5))
    torch.testing.assert_close(sol.residual, torch.full((2,), 25.0))


@pytest.mark.parametrize(
    "adjoint",
    [
        deq.Implicit(stop=deq.Stop(80, parts=(deq.Part(1e-9), deq.Part(1e-9)))),
        deq.Unrolled(),
        deq.Reversible(),
    ],
    ids=["implicit", "unrolled", "reversible"],
)
def test_gradients_pass_through_a_solve_by_part(adjoint):
    inject = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
    f = lambda hidden, flow: (0.2 * hidden + inject, 0.3 * flow + 0.1 * hidden[:, :2])  # noqa: E731
    stop = deq.Stop(200, parts=(deq.Part(1e-12), deq.Part(1e-10, relative=False)))
    sol = deq.fixed_point(
        f, (torch.zeros(2, 3).double(), torch.zeros(2, 2).double()), stop=stop, adjoint=adjoint, on_failure="raise"
    )
    (slope,) = torch.autograd.grad(sol.value[1].sum(), inject)
    expected = torch.tensor([0.1 / 0.8 / 0.7, 0.1 / 0.8 / 0.7, 0.0], dtype=torch.float64).expand(2, -1)
    torch.testing.assert_close(slope, expected)


@torch.no_grad()
def test_a_solve_by_part_compiles_without_a_tolerance():
    def solve(hidden, flow):
        parts = deq.Part(1e-3), deq.Part(0.02, relative=False, norm=deq.max_norm)
        sol = deq.fixed_point(pair, (hidden, flow), solver=PLAIN, stop=deq.Stop(4, None, parts=parts))
        return sol.value[1], sol.residual, sol.parts

    compiled = torch.compile(solve, backend="eager", fullgraph=True)(*START)
    for found, wanted in zip(compiled, solve(*START), strict=True):
        torch.testing.assert_close(found, wanted)


def test_the_parts_of_any_solution_can_be_measured_by_one_evaluation():
    sol = deq.fixed_point(pair, START, solver=PLAIN, stop=deq.Stop(tol=1e-3))
    calls = []

    def f(hidden, flow):
        calls.append(1)
        return pair(hidden, flow)

    found = deq.part_residuals(f, sol.value)
    assert len(calls) == 1
    for i, (here, there) in enumerate(zip(sol.value, pair(*sol.value), strict=True)):
        torch.testing.assert_close(found[:, i], (there - here).norm(dim=1) / there.norm(dim=1))
    assert found[0, 1] > 10 * sol.residual[0]  # which the whole state hides
    own = deq.part_residuals(f, sol.value, parts=BOTH.parts)
    torch.testing.assert_close(own[:, 0], found[:, 0])
    torch.testing.assert_close(own[:, 1], (pair(*sol.value)[1] - sol.value[1]).abs().amax(1))
    half = deq.part_residuals(f, tuple(leaf.half() for leaf in sol.value))
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, found, rtol=0.1, atol=2e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: deq.Part(0.0), "tol of a part must be"),
        (lambda: deq.Stop(tol=1e-2, parts=BOTH.parts), "must be each part's own"),
        (lambda: deq.Stop(relative=False, parts=BOTH.parts), "must be each part's own"),
        (lambda: deq.Stop(parts=(deq.Part(None),)), "must have a tolerance"),
        (lambda: deq.fixed_point(torch.cos, torch.zeros(1, 1), stop=BOTH), r"it has 1 \(state\), got 2 parts"),
        (lambda: deq.part_residuals(torch.cos, torch.zeros(1, 1), parts=BOTH.parts), "it has 1"),
        (lambda: BOTH.residual(torch.zeros(1, 8), torch.zeros(1, 8)), "ask Stop.laid_out"),
        (
            lambda: deq.compat.released_fixed_point(pair, START, solver=PLAIN, stop=BOTH),
            "released rules judge a state as a whole",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_what_is_no_part_is_refused():
    with pytest.raises(TypeError, match="parts must be Part objects"):
        deq.Stop(parts=(1e-3, 0.02))  # pyright: ignore[reportArgumentType]  the error under test
    with pytest.raises(TypeError, match="norm of a part must map"):
        deq.Part(1e-3, norm="rms")  # pyright: ignore[reportArgumentType]  the error under test


def test_a_missed_tolerance_is_told_in_the_parts_terms():
    with pytest.raises(deq.ConvergenceError, match="residual of 1, that of a part over its tolerance, in 5 steps"):
        deq.fixed_point(pair, START, solver=PLAIN, stop=replace(BOTH, max_steps=5), on_failure="raise")
