"""The gradient of unrolling, without what unrolling holds."""

import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.gradients import assert_equal_gradients, cotangent_of, gradients, reversibly, unrolled
from tests.problems import PROBLEMS

import deq_core as deq

HALF = deq.Reversible()


def told(stop: deq.Stop) -> str:
    """A name for a test, the same in every process, which that of a function in a repr is not."""
    return f"{stop.max_steps} steps, tol {stop.tol}"


@pytest.mark.parametrize(
    "stop", [deq.Stop(1, None), deq.Stop(2, None), deq.Stop(25, None), deq.Stop(60, 1e-3)], ids=told
)
@pytest.mark.parametrize("by", [HALF, deq.Reversible(0.3), deq.Reversible(0.8)], ids=repr)
@pytest.mark.parametrize("name", ["tanh", "convolution", "pair"])
def test_gradients_are_those_of_unrolling(name, by, stop):
    problem = PROBLEMS[name]()
    by = replace(by, on_failure="ignore")
    cotangent = cotangent_of(problem)
    expected = gradients(problem, cotangent, stop=stop, on_failure="ignore", **unrolled(by))
    assert_equal_gradients(gradients(problem, cotangent, stop=stop, on_failure="ignore", adjoint=by), expected)


def test_the_iteration_is_the_papers_two_states():
    problem, steps, beta = PROBLEMS["tanh"](), 5, 0.7
    y = z = problem.z0
    for _ in range(steps):
        y = (1 - beta) * y + beta * problem.f(z)
        z = (1 - beta) * z + beta * problem.f(y)
    seen = []

    def f(state):
        seen.append(state)
        return problem.f(state)

    with torch.no_grad():
        deq.fixed_point(f, problem.z0, stop=deq.Stop(2 * steps + 1, None), adjoint=deq.Reversible(1 - beta))
    torch.testing.assert_close(torch.stack(seen[-2:]), torch.stack([y, z]).detach(), rtol=0, atol=1e-14)


def test_recorded_states_carry_their_whole_history():
    problem, stop, record = PROBLEMS["pair"](), deq.Stop(30, 1e-3), (1, 2, 5, 12, 30)
    found = []
    for options in (reversibly(HALF), unrolled(HALF)):
        solution = deq.fixed_point(problem.f, problem.z0, stop=stop, record=record, on_failure="ignore", **options)
        states = (*solution.trajectory, solution.value)
        loss = torch.stack([(k + 1) * problem.leaves(state).sin().sum() for k, state in enumerate(states)]).sum()
        found.append(torch.autograd.grad(loss, problem.parameters))
    assert_equal_gradients(*found)


@pytest.mark.parametrize("stop", [deq.Stop(9, None), deq.Stop(40, 1e-2)], ids=told)
@pytest.mark.parametrize("check", [torch.autograd.gradcheck, torch.autograd.gradgradcheck])
def test_gradcheck(check, stop):
    problem = PROBLEMS["tanh"]()
    weight, inject = (parameter.detach()[:2, :2].clone().requires_grad_() for parameter in problem.parameters)
    z0 = torch.full((2, 2), 0.1, dtype=torch.float64, requires_grad=True)

    def solve(weight, inject, z0):
        return deq.fixed_point(lambda z: torch.tanh(z @ weight.T + inject), z0, stop=stop, adjoint=HALF).value

    assert check(solve, (weight, inject, z0), atol=1e-6)


def living(steps, **options):
    """How many of the tensors that the evaluations saved for their backward pass are alive after the solve."""
    saved = []
    weight = torch.eye(4, requires_grad=True)

    def f(z):
        hidden = z @ weight + 1
        saved.append(weakref.ref(hidden))
        return hidden * hidden / 8

    solution = deq.fixed_point(f, torch.zeros(2, 4), stop=deq.Stop(steps, None), **options)
    assert solution.value.requires_grad
    assert len(saved) == steps
    return sum(reference() is not None for reference in saved)


def test_no_evaluation_but_the_first_is_held():
    assert [living(steps, adjoint=HALF) for steps in (1, 2, 10, 40)] == [1, 1, 1, 1]
    assert [living(steps, **unrolled(HALF)) for steps in (1, 2, 10, 40)] == [1, 2, 10, 40]


def test_beside_the_evaluations_at_most_two_bytes_a_sample_and_step_are_saved():
    problem = PROBLEMS["tanh"]()
    samples = len(problem.z0)

    def held(steps):
        total = 0

        def pack(tensor):
            nonlocal total
            total += tensor.numel() * tensor.element_size()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            deq.fixed_point(problem.f, problem.z0, stop=deq.Stop(steps, None), adjoint=HALF)
        return total

    assert 0 < held(4) <= held(40) <= held(4) + 36 * 2 * samples


def test_the_backward_pass_evaluates_f_once_for_each_evaluation_but_the_first():
    problem, calls = PROBLEMS["tanh"](), []

    def f(z):
        calls.append(0)
        return problem.f(z)

    solution = deq.fixed_point(f, problem.z0, stop=deq.Stop(9, None), adjoint=HALF)
    assert len(calls) == solution.nfe == 9
    solution.value.sum().backward()
    assert len(calls) == 9 + 8


def single(dtype, by, steps, **options):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(64, 64, generator=generator)
    weight = (weight * (0.9 / torch.linalg.matrix_norm(weight, 2))).to(dtype).requires_grad_()
    inject = torch.randn(4, 64, generator=generator).to(dtype).requires_grad_()
    options = options or reversibly(by)
    f = lambda z: torch.tanh(z @ weight.T + inject)  # noqa: E731  the closure is the point
    solution = deq.fixed_point(f, torch.zeros_like(inject), stop=deq.Stop(steps, None), **options)
    return torch.autograd.grad(solution.value.float().square().sum(), (weight, inject))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("damping", "steps"), [(0.5, 40), (0.2, 10)])
def test_states_in_single_precision_come_back_to_the_last_bit(damping, steps, dtype):
    by = deq.Reversible(damping)
    for left, right in zip(single(dtype, by, steps), single(dtype, by, steps, **unrolled(by)), strict=True):
        assert torch.equal(left, right)


def test_rounding_grows_by_the_reciprocal_damping():
    """The error of the gradient, in double precision: within a few units of eps · damping^-steps."""
    problem = PROBLEMS["tanh"]()
    cotangent = cotangent_of(problem)
    for damping, steps in ((0.2, 16), (0.5, 40), (0.8, 60)):
        by = deq.Reversible(damping, on_failure="ignore")
        stop = deq.Stop(steps, None)
        found = gradients(problem, cotangent, stop=stop, adjoint=by)
        expected = gradients(problem, cotangent, stop=stop, **unrolled(by))
        error = max(float((left - right).norm() / right.norm()) for left, right in zip(found, expected, strict=True))
        assert error < 10 * torch.finfo(torch.float64).eps * damping**-steps


def test_a_reconstruction_that_ends_elsewhere_is_not_silent():
    def backward(steps, **options):
        problem = PROBLEMS["tanh"]()
        by = deq.Reversible(0.1, **options)
        deq.fixed_point(problem.f, problem.z0, stop=deq.Stop(steps, None), adjoint=by).value.sum().backward()

    backward(8)
    backward(60, on_failure="ignore")
    with pytest.raises(deq.ConvergenceError, match=r"reversible solve: 4 of 4 samples .* larger damping"):
        backward(60)
    with pytest.warns(deq.ConvergenceWarning, match="came back to another state than z0"):
        backward(60, on_failure="warn")
    with pytest.raises(deq.ConvergenceError, match=r"worst by \d"):
        backward(8, tol=1e-15)


def test_it_is_its_own_solver():
    problem, stop = PROBLEMS["tanh"](), deq.Stop(12, None)
    attached = deq.fixed_point(problem.f, problem.z0, stop=stop, adjoint=HALF)
    with torch.no_grad():
        detached = deq.fixed_point(problem.f, problem.z0, stop=stop, adjoint=HALF)
        named = deq.fixed_point(problem.f, problem.z0, stop=stop, solver=HALF)
    assert torch.equal(attached.value, detached.value)
    assert torch.equal(attached.value, named.value)
    assert torch.equal(attached.trace, named.trace)
    assert deq.nn.DEQ(adjoint=HALF).solver == HALF
    assert deq.nn.DEQ().solver == deq.Anderson()
    # A solver like any other behind another adjoint.
    deq.fixed_point(problem.f, problem.z0, solver=HALF, adjoint=deq.Implicit()).value.sum().backward()


@pytest.mark.parametrize("solver", [deq.Anderson(), deq.Reversible(0.4)])
def test_another_solver_is_refused(solver):
    problem = PROBLEMS["tanh"]()
    for grad in (True, False):
        with torch.set_grad_enabled(grad), pytest.raises(ValueError, match="leave solver out or pass the same, got"):
            deq.fixed_point(problem.f, problem.z0, solver=solver, adjoint=HALF)
    with pytest.raises(ValueError, match="leave solver out or pass the same"):
        deq.nn.DEQ(solver=solver, adjoint=HALF)
    with pytest.raises(ValueError, match="solves by an iteration of its own"):
        deq.compat.released_fixed_point(problem.f, problem.z0, adjoint=HALF)


@pytest.mark.parametrize("tol", [None, 1e-6])
def test_a_failing_sample_does_not_spoil_the_gradients_of_others(tol):
    gain = torch.tensor([[0.5], [0.5], [0.5]], dtype=torch.float64, requires_grad=True)

    def gradient(fails):
        calls = 0

        def f(z):
            nonlocal calls
            calls += 1
            image = gain * torch.cos(z)
            broken = torch.tensor([[False], [fails and calls == 4], [False]])
            return torch.where(broken, torch.full_like(image, torch.nan), image)

        z0 = torch.zeros(3, 2, dtype=torch.float64)
        solution = deq.fixed_point(f, z0, stop=deq.Stop(12, tol), adjoint=HALF, on_failure="ignore")
        return solution, torch.autograd.grad(solution.value.sum(), gain)[0]

    (broken, found), (_, expected) = gradient(True), gradient(False)
    assert broken.steps[1] < 4 <= broken.steps[0]
    assert found.isfinite().all()
    torch.testing.assert_close(found[[0, 2]], expected[[0, 2]], rtol=1e-12, atol=0)


def test_f_may_write_into_what_it_made_unless_that_is_needed():
    weight = torch.randn(4, 4, generator=torch.Generator().manual_seed(0)).div_(3).requires_grad_()
    stop, z0 = deq.Stop(7, None), torch.ones(2, 4)

    def gradient(f, options):
        return torch.autograd.grad(deq.fixed_point(f, z0, stop=stop, **options).value.sum(), weight)[0]

    def sound(z):
        return (z @ weight).add_(0.5).relu_()

    def unsound(z):
        hidden = torch.sigmoid(z @ weight)
        return hidden.mul_(0.9)

    assert torch.equal(gradient(sound, reversibly(HALF)), gradient(sound, unrolled(HALF)))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        gradient(unsound, unrolled(HALF))
    with pytest.raises(RuntimeError, match=r"f changed in place what step \d needs"):
        gradient(unsound, reversibly(HALF))


def test_an_f_that_does_not_repeat_itself_is_an_error():
    weight, calls = torch.eye(3, requires_grad=True), []

    def f(z):
        calls.append(0)
        return torch.tanh(z @ weight) if len(calls) < 6 else torch.sin(torch.tanh(z @ weight))

    solution = deq.fixed_point(f, torch.ones(1, 3), stop=deq.Stop(5, None), adjoint=HALF)
    with pytest.raises(RuntimeError, match=r"f did not repeat itself: step 5 .* saved"):
        solution.value.sum().backward()


WRONG: Any = "print"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: deq.Reversible(0.0), "0 reconstructs nothing"),
        (lambda: deq.Reversible(1.0), "below 1, got 1.0"),
        (lambda: deq.Reversible(tol=0.0), "tol must be above 0"),
        (lambda: deq.Reversible(on_failure=WRONG), "on_failure must be one of"),
    ],
)
def test_impossible_settings_fail_at_construction(build, message):
    with pytest.raises(ValueError, match=message):
        build()
