"""Broyden's method that shortens its steps, every sample for itself."""

from functools import partial
from typing import Any

import pytest
import torch
from tests.problems import PROBLEMS

import deq_core as deq

SEARCHED = deq.LineSearchBroyden()
SLOPE = torch.tensor([4.0, 0.9, 8.0, 1.5], dtype=torch.float64)[:, None]
START = torch.randn(4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
START = START * torch.tensor([[8.0], [0.3], [4.0], [1.0]])
STOP = deq.Stop(80, 1e-10, relative=False)


def steep(z, slope=SLOPE):
    """z = 0 is the solution; far from it the residual is flat, so that a full step goes far beyond."""
    return z - slope * torch.atan(z) - 0.1 * torch.atan(z.roll(1, 1))


def recorded(f):
    seen = []

    def recording(z):
        seen.append(z)
        return f(z)

    return recording, seen


def solve(f, z0, solver, stop=STOP):
    with torch.no_grad():
        return deq.fixed_point(f, z0, solver=solver, stop=stop, on_failure="ignore")


def test_it_converges_where_full_steps_do_not():
    full, searched = solve(steep, START, deq.Broyden()), solve(steep, START, SEARCHED)
    assert not full.converged.all()
    assert searched.converged.all()
    torch.testing.assert_close(searched.value, torch.zeros_like(START), rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["tanh", "convolution", "pair"])
def test_a_step_that_is_good_enough_is_broydens_own(name):
    problem, stop = PROBLEMS[name](), deq.Stop(10, None)
    full, searched = solve(problem.f, problem.z0, deq.Broyden(), stop), solve(problem.f, problem.z0, SEARCHED, stop)
    torch.testing.assert_close(searched.trace, full.trace, rtol=1e-6, atol=1e-13)


def dense(f, z, steps, search, memory=100):
    """The points that one sample (n,) evaluates: the textbook's update on an explicit inverse, and its trials."""
    residual = lambda z: (f(z[None]) - z[None])[0]  # noqa: E731
    points, g = [z], residual(z)
    inverse, kept = -torch.eye(len(z), dtype=z.dtype), 0
    while len(points) < steps:
        kept = 0 if kept == memory else kept
        inverse = inverse if kept else -torch.eye(len(z), dtype=z.dtype)
        direction, length, trials = -inverse @ g, 1.0, 0
        while True:
            tried = z + length * direction
            points.append(tried)
            new, trials = residual(tried), trials + 1
            phi, start = float(new @ new), float(g @ g)
            if phi <= (1 - 2 * search.sufficient * length) * start:
                break
            if trials == search.trials:
                inverse, kept = -torch.eye(len(z), dtype=z.dtype), 0
                tried = z + g
                points.append(tried)
                new = residual(tried)
                break
            shorter = start * length**2 / (phi - start + 2 * length * start)
            length = min(max(shorter, 0.1 * length), 0.5 * length)
        step, change = tried - z, new - g
        row = step @ inverse
        inverse = inverse + torch.outer(step - inverse @ change, row) / (row @ change)
        z, g, kept = tried, new, kept + 1
    return points[:steps]


@pytest.mark.parametrize("search", [deq.Armijo(), deq.Armijo(trials=1), deq.Armijo(trials=2, sufficient=0.2)], ids=repr)
@pytest.mark.parametrize("memory", [None, 4])
def test_every_trial_is_that_of_the_textbook(search, memory):
    f, seen = recorded(steep)
    steps = 16
    solve(f, START, deq.LineSearchBroyden(memory, search), deq.Stop(steps, None))
    rejected = 0
    for sample in range(len(START)):
        of_sample = partial(steep, slope=SLOPE[sample])
        with torch.no_grad():
            expected = dense(of_sample, START[sample], steps, search, memory=memory or 100)
        for found, point in zip(seen, expected, strict=True):
            torch.testing.assert_close(found[sample], point, rtol=1e-7, atol=1e-9)
        residuals = torch.stack([(of_sample(z) - z).norm() for z in torch.stack(expected)[:, None]])
        rejected += int((residuals[1:] > residuals[:-1]).sum())
    assert rejected > 4, "the problem does not test the search"


def test_every_sample_searches_for_itself():
    together = solve(steep, START, SEARCHED)
    assert len(set(together.steps.tolist())) == 4
    for sample in range(4):
        rows = slice(sample, sample + 1)
        alone = solve(partial(steep, slope=SLOPE[rows]), START[rows], SEARCHED)
        assert alone.steps[0] == together.steps[sample]
        torch.testing.assert_close(alone.trace[:, 0], together.trace[: len(alone.trace), sample], rtol=1e-6, atol=1e-13)


def test_trials_are_evaluations_like_any_other():
    f, seen = recorded(steep)
    solution = solve(f, START, SEARCHED)
    assert solution.nfe == len(seen) == len(solution.trace)
    assert (solution.trace[1:] > solution.trace[:-1]).any()


def test_gradients_pass_through_the_search():
    slope = SLOPE.clone().requires_grad_()
    shift = 0.1 * torch.ones_like(START).requires_grad_()

    def solve(slope, shift):
        f = lambda z: z - slope * torch.atan(z - shift)  # noqa: E731  the closure is the point
        stop = deq.Stop(7, None)
        return deq.fixed_point(f, START, solver=SEARCHED, stop=stop, adjoint=deq.Unrolled()).value

    assert torch.autograd.gradcheck(solve, (slope, shift), atol=1e-6)


WRONG: Any = True


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: deq.Armijo(sufficient=0.0), "sufficient must be above 0"),
        (lambda: deq.Armijo(sufficient=0.5), "below 0.5"),
        (lambda: deq.Armijo(trials=0), "trials must be at least 1"),
        (lambda: deq.LineSearchBroyden(line_search=WRONG), r"line_search must be Armijo\(\.\.\.\), got True"),
    ],
)
def test_impossible_settings_fail_at_construction(build, message):
    with pytest.raises((ValueError, TypeError), match=message):
        build()
