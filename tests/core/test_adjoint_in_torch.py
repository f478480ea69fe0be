"""Gradients under what torch does round them: many graphs, threads, checkpointing, autocast, garbage collection."""

import gc
import itertools
import threading
import weakref

import pytest
import torch
from tests.gradients import cotangent_of, exact_gradients, gradients
from tests.problems import PROBLEMS, SOLVERS, TIGHT
from torch import nn
from torch.utils.checkpoint import checkpoint

import deq_core as deq


def test_many_solves_wait_for_their_backward_in_any_order():
    problem = PROBLEMS["tanh"]()
    options = {"stop": TIGHT, "adjoint": deq.Implicit(stop=TIGHT)}
    cotangent = cotangent_of(problem)
    exact = exact_gradients(problem, cotangent)
    solutions = [deq.fixed_point(problem.f, problem.z0, **options) for _ in range(3)]
    for solution in reversed(solutions):
        loss = (solution.value * cotangent).sum()
        for _ in range(2):
            found = torch.autograd.grad(loss, problem.parameters, retain_graph=True)
            for left, right in zip(found, exact, strict=True):
                torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-10)


def test_a_solve_inside_a_solve():
    inject = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    layer = deq.nn.DEQ(stop=TIGHT, adjoint=deq.Implicit(stop=TIGHT))

    def outer(z):
        return layer(lambda y: torch.tanh(0.3 * y + 0.4 * z + inject), torch.zeros_like(z)).value

    def joint(y, z):
        return torch.tanh(0.3 * y + 0.4 * z + inject), y

    nested = torch.autograd.grad(layer(outer, torch.zeros_like(inject)).value.sum(), inject)
    start = (torch.zeros_like(inject), torch.zeros_like(inject))
    flat = torch.autograd.grad(layer(joint, start).value[1].sum(), inject)
    torch.testing.assert_close(nested, flat, rtol=1e-9, atol=1e-9)


def test_gradients_accumulate():
    problem = PROBLEMS["linear"]()
    weight, bias = problem.parameters
    once = gradients(problem, cotangent_of(problem), stop=TIGHT)
    for _ in range(2):
        solution = deq.fixed_point(problem.f, problem.z0, stop=TIGHT)
        (solution.value * cotangent_of(problem)).sum().backward()
    torch.testing.assert_close(weight.grad, 2 * once[0], rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(bias.grad, 2 * once[1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("adjoint", "reentrant"),
    [
        *itertools.product(
            (deq.Implicit(), deq.Unrolled(), deq.Truncated(), deq.JacobianFree(), deq.SHINE(), deq.Reversible()),
            (True, False),
        ),
        (deq.Phantom(2), False),
    ],
)
def test_checkpointing_changes_nothing(adjoint, reentrant):
    problem = PROBLEMS["tanh"]()
    solver = deq.Broyden() if isinstance(adjoint, deq.SHINE) else None

    def solve(inject):
        f = lambda z: torch.tanh(z @ problem.parameters[0].T + inject)  # noqa: E731  the closure is the point
        return deq.fixed_point(f, problem.z0, solver=solver, adjoint=adjoint).value

    value = solve(problem.parameters[1])
    plain = torch.autograd.grad(value.square().sum(), problem.parameters)
    checkpointed = checkpoint(solve, problem.parameters[1], use_reentrant=reentrant)
    assert torch.equal(checkpointed, value)
    # The reentrant kind allows `backward` only.
    checkpointed.square().sum().backward()
    for parameter, expected in zip(problem.parameters, plain, strict=True):
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, expected)


class Dropped(nn.Module):
    """A cell with dropout and a parametrised weight."""

    def __init__(self, norm):
        super().__init__()
        self.linear = norm(nn.Linear(6, 6, dtype=torch.float64))
        self.drop = deq.nn.VariationalDropout(0.4)

    def forward(self, z):
        return torch.tanh(0.5 * self.drop(self.linear(z)) + 1)


@pytest.mark.parametrize("norm", [deq.nn.weight_norm_, deq.nn.spectral_norm_])
@pytest.mark.parametrize(
    "adjoint", [deq.Implicit(), deq.Truncated(3), deq.SHINE(), deq.Unrolled(), deq.Phantom(2), deq.Reversible()]
)
def test_checkpointing_inside_f_keeps_the_solves_masks_vectors_and_weights(adjoint, norm):
    solver = deq.Broyden() if isinstance(adjoint, deq.SHINE) else None

    def gradient(checkpointed):
        torch.manual_seed(0)
        cell = Dropped(norm)
        inside = lambda z: checkpoint(cell, z, use_reentrant=False, context_fn=deq.checkpoint_contexts)  # noqa: E731
        f, z0 = inside if checkpointed else cell, torch.zeros(3, 6, dtype=torch.float64)
        solution = deq.fixed_point(f, z0, solver=solver, stop=deq.Stop(20, None), adjoint=adjoint)
        return torch.autograd.grad(solution.value.square().sum(), list(cell.parameters()))

    found = gradient(False), gradient(True)
    for left, right in zip(*found, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize(
    "module",
    [deq.nn.VariationalDropout(0.4), deq.nn.spectral_norm_(nn.Linear(6, 6))],
    ids=["dropout", "spectral norm"],
)
def test_a_checkpoint_inside_f_without_the_solves_masks_and_vectors_is_refused(module, reentrant):
    x = torch.ones(3, 6, requires_grad=True)
    f = lambda z: checkpoint(lambda z, x: torch.tanh(0.5 * module(z + x)), z, x, use_reentrant=reentrant)  # noqa: E731
    solution = deq.fixed_point(f, torch.zeros(3, 6), adjoint=deq.JacobianFree())
    with pytest.raises(RuntimeError, match=r"outside of its solve.*checkpoint_contexts"):
        solution.value.sum().backward()


@pytest.mark.parametrize("reentrant", [False, True])
def test_dropout_that_is_in_no_solve_is_checkpointed_as_any(reentrant):
    drop, x = deq.nn.VariationalDropout(0.4), torch.ones(3, 6, requires_grad=True)
    y = checkpoint(drop, x, use_reentrant=reentrant)
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, y)


@pytest.mark.parametrize("adjoint", [deq.Implicit(), deq.Phantom(), deq.Unrolled()])
def test_every_evaluation_runs_under_the_callers_autocast(adjoint):
    seen = []
    linear = nn.Linear(6, 6)

    def f(z):
        image = linear(z)
        seen.append(image.dtype)
        return torch.tanh(0.3 * image)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        solution = deq.fixed_point(f, torch.ones(2, 6), stop=deq.Stop(8, 1e-2), adjoint=adjoint)
    forward = len(seen)
    solution.value.sum().backward()
    assert set(seen) == {torch.bfloat16}
    assert len(seen) == forward + isinstance(adjoint, deq.Implicit)
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in linear.parameters())
    assert solution.value.dtype == torch.float32


@pytest.mark.parametrize("solver", [deq.Anderson(), deq.Broyden()], ids=lambda solver: solver.kind)
def test_the_solvers_own_algebra_is_not_under_autocast(solver):
    torch.manual_seed(0)
    linear, x = nn.Linear(32, 32), torch.randn(4, 32, requires_grad=True)
    exact = torch.autocast("cpu", enabled=False)(lambda z: torch.tanh(linear(z) + x))
    stop = deq.Stop(60, 1e-6)
    found = []
    for autocast in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            adjoint = deq.Implicit(deq.GMRES(), stop)
            solution = deq.fixed_point(exact, torch.zeros_like(x), solver=solver, stop=stop, adjoint=adjoint)
            (gradient,) = torch.autograd.grad(solution.value.square().sum(), x)
        assert solution.converged.all()
        found.append((solution.value, solution.trace, gradient))
    for left, right in zip(*found, strict=True):
        assert torch.equal(left, right)


def test_a_weight_cast_in_the_forward_solve_still_gets_its_gradient():
    linear = nn.Linear(6, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        solution = deq.fixed_point(lambda z: torch.tanh(0.3 * linear(z)), torch.ones(2, 6), stop=deq.Stop(9, None))
        solution.value.sum().backward()
    assert linear.weight.grad is not None
    assert linear.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("tol", [None, 1e-4])
@pytest.mark.parametrize(
    "adjoint",
    [
        deq.Implicit(),
        deq.Phantom(2),
        deq.Unrolled(),
        deq.Truncated(),
        deq.JacobianFree(),
        deq.SHINE(),
        deq.Reversible(),
    ],
    ids=lambda adjoint: adjoint.kind,
)
def test_an_empty_batch_has_gradients_of_zero(adjoint, tol):
    weight, x = torch.eye(3, requires_grad=True), torch.zeros(0, 3, requires_grad=True)
    solver = deq.Broyden() if isinstance(adjoint, deq.SHINE) else None
    stop = deq.Stop(4, tol)
    f = lambda z: torch.tanh(0.3 * z @ weight + x)  # noqa: E731  the closure is the point
    solution = deq.fixed_point(f, torch.zeros(0, 3), solver=solver, stop=stop, adjoint=adjoint, record=(2,))
    found = torch.autograd.grad(solution.value.sum() + solution.trajectory[0].sum(), (weight, x))
    assert torch.equal(found[0], torch.zeros(3, 3))
    assert found[1].shape == (0, 3)


def test_a_constant_f_has_no_gradient_to_carry():
    image = torch.ones(2, 3)
    assert not deq.fixed_point(lambda z: image, torch.zeros(2, 3)).value.requires_grad


def test_an_f_that_ignores_the_state_is_differentiated():
    image = torch.ones(2, 3, requires_grad=True)
    (gradient,) = torch.autograd.grad(deq.fixed_point(lambda z: 2 * image, torch.zeros(2, 3)).value.sum(), image)
    assert torch.equal(gradient, torch.full((2, 3), 2.0))


def test_the_graph_is_freed_with_the_solution():
    class Payload(nn.Module):
        pass

    payload = Payload()
    freed = weakref.ref(payload)
    weight = torch.ones(1, requires_grad=True)

    def solve(payload):
        def f(z):
            assert payload is not None
            return 0.5 * z * weight + 1

        return deq.fixed_point(f, torch.zeros(2, 1))

    gc.collect()
    gc.disable()
    try:
        solution = solve(payload)
        solution.value.sum().backward()
        del solution, payload
        assert freed() is None
    finally:
        gc.enable()


def test_backward_memory_does_not_grow_with_forward_steps():
    problem = PROBLEMS["tanh"]()

    def saved(steps, adjoint):
        total = 0

        def pack(tensor):
            nonlocal total
            total += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            deq.fixed_point(problem.f, problem.z0, stop=deq.Stop(steps, None), adjoint=adjoint)
        return total

    assert saved(5, deq.Implicit()) == saved(50, deq.Implicit())
    assert saved(50, deq.Unrolled()) > 5 * saved(5, deq.Unrolled())


def test_a_failing_sample_does_not_spoil_the_gradients_of_others():
    gain = torch.tensor([[0.5], [0.5], [0.5]], dtype=torch.float64, requires_grad=True)

    def gradient(fails, adjoint):
        calls = 0

        def f(z):
            nonlocal calls
            calls += 1
            image = gain * torch.cos(z)
            broken = torch.tensor([[False], [fails and 3 <= calls <= 6], [False]])
            return torch.where(broken, torch.full_like(image, torch.nan), image)

        z0 = torch.zeros(3, 2, dtype=torch.float64)
        solution = deq.fixed_point(f, z0, solver=deq.FixedPointIteration(), stop=deq.Stop(6, None), adjoint=adjoint)
        return torch.autograd.grad(solution.value.sum(), gain)[0]

    for adjoint in (deq.Implicit(), deq.Phantom(steps=2), deq.Unrolled()):
        broken, sound = gradient(True, adjoint), gradient(False, adjoint)
        assert broken.isfinite().all()
        assert torch.equal(broken[[0, 2]], sound[[0, 2]])


@pytest.mark.parametrize("tol", [None, 1e-4])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_failing_sample_does_not_spoil_the_unrolled_gradient_of_a_shared_weight(solver, bad, tol):
    """Whatever a solver makes of what is not finite, 0 times it must not reach the weight."""
    problem = PROBLEMS["tanh"]()
    weight, inject = problem.parameters

    def weights_gradient(fails, cotangent):
        calls = 0

        def f(z):
            nonlocal calls
            calls += 1
            broken = torch.zeros(len(z), 1, dtype=torch.bool)
            broken[1] = fails and calls >= 4
            return torch.where(broken, bad, torch.tanh(z @ weight.T + inject))

        options = {"solver": SOLVERS[solver], "stop": deq.Stop(9, tol), "adjoint": deq.Unrolled()}
        solution = deq.fixed_point(f, problem.z0, record=(2,), on_failure="ignore", **options)
        return torch.autograd.grad((solution.value * cotangent).sum(), weight)[0]

    everywhere = cotangent_of(problem)
    elsewhere = everywhere.clone()
    elsewhere[1] = 0
    assert torch.equal(weights_gradient(True, elsewhere), weights_gradient(False, elsewhere))
    assert weights_gradient(True, everywhere).isfinite().all()


def test_solves_in_threads_do_not_meet():
    problem = PROBLEMS["tanh"]()
    results = {}

    def work(index):
        results[index] = gradients(problem, cotangent_of(problem, seed=index), stop=TIGHT)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index in range(4):
        alone = gradients(problem, cotangent_of(problem, seed=index), stop=TIGHT)
        for left, right in zip(results[index], alone, strict=True):
            torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)
