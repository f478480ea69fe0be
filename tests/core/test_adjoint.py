"""Gradients: exact where they claim to be, bounded where they do not, and safe under everything torch does."""

import gc
import threading
import weakref

import pytest
import torch
from tests.problems import ACCELERATED, PROBLEMS, SOLVERS, TIGHT
from torch import nn
from torch.utils.checkpoint import checkpoint

import deq_core as deq


def exact_gradients(problem, cotangent):
    """dL/dθ by a dense solve of the implicit function theorem, with L = <cotangent, z*>."""
    state = problem.solution()
    parts = state if isinstance(state, tuple) else (state,)
    sizes = [leaf[0].numel() for leaf in parts]

    def flat(z):
        return problem.leaves(problem.f(*[p.reshape(s.shape) for p, s in zip(z.split(sizes, 1), parts, strict=True)]))

    z = problem.leaves(state).requires_grad_()
    jacobian = torch.autograd.functional.jacobian(flat, z).reshape(z.numel(), z.numel())
    u = torch.linalg.solve(torch.eye(z.numel(), dtype=z.dtype) - jacobian.T, cotangent.flatten())
    return torch.autograd.grad(flat(z), problem.parameters, u.reshape(z.shape))


def gradients(problem, cotangent, **options):
    solution = deq.fixed_point(problem.f, problem.z0, **options)
    return torch.autograd.grad((problem.leaves(solution.value) * cotangent).sum(), problem.parameters)


def cotangent_of(problem, seed=0):
    like = problem.leaves(problem.z0)
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed), dtype=like.dtype)


def cosine(left, right):
    left, right = torch.cat([g.flatten() for g in left]), torch.cat([g.flatten() for g in right])
    return torch.nn.functional.cosine_similarity(left, right, dim=0).item()


@pytest.mark.parametrize(
    ("name", "forward", "backward"),
    [
        (n, f, b)
        for n in PROBLEMS
        for f in ("damped", "anderson", "broyden")
        for b in SOLVERS
        if n != "expanding" or {f, b} <= {*ACCELERATED}
    ],
)
def test_implicit_gradients_are_exact_with_every_pair_of_solvers(name, forward, backward):
    problem = PROBLEMS[name]()
    cotangent = cotangent_of(problem)
    adjoint = deq.Implicit(solver=SOLVERS[backward], stop=TIGHT)
    found = gradients(problem, cotangent, solver=SOLVERS[forward], stop=TIGHT, adjoint=adjoint)
    for left, right in zip(found, exact_gradients(problem, cotangent), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", ["linear", "tanh", "convolution", "pair"])
def test_unrolled_gradients_converge_to_the_exact_ones(name, solver):
    problem = PROBLEMS[name]()
    cotangent = cotangent_of(problem)
    found = gradients(problem, cotangent, solver=SOLVERS[solver], stop=deq.Stop(400, 1e-14), adjoint=deq.Unrolled())
    for left, right in zip(found, exact_gradients(problem, cotangent), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("adjoint", [deq.Implicit(stop=TIGHT), deq.Unrolled()])
def test_gradcheck(adjoint):
    problem = PROBLEMS["tanh"]()
    weight, inject = problem.parameters

    def solve(weight, inject):
        f = lambda z: torch.tanh(z @ weight.T + inject)  # noqa: E731  the closure is the point
        return deq.fixed_point(f, problem.z0, stop=TIGHT, adjoint=adjoint).value

    assert torch.autograd.gradcheck(solve, (weight, inject), atol=1e-7)


def test_unrolled_gradients_can_be_differentiated_again():
    inject = torch.randn(2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()

    def solve(inject):
        f = lambda z: torch.tanh(0.4 * z + inject)  # noqa: E731  the closure is the point
        stop = deq.Stop(40, None)
        return deq.fixed_point(
            f, torch.zeros_like(inject), solver=deq.FixedPointIteration(), stop=stop, adjoint=deq.Unrolled()
        ).value

    assert torch.autograd.gradgradcheck(solve, (inject,), atol=1e-7)


def test_unrolled_gradients_reach_the_start():
    z0 = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
    stop = deq.Stop(3, None, relative=False)
    solution = deq.fixed_point(lambda z: z / 2, z0, solver=deq.FixedPointIteration(), stop=stop, adjoint=deq.Unrolled())
    (gradient,) = torch.autograd.grad(solution.value.sum(), z0)
    assert torch.equal(gradient, torch.full_like(z0, 0.125))


def test_a_second_derivative_of_an_implicit_gradient_is_refused():
    problem = PROBLEMS["linear"]()
    solution = deq.fixed_point(problem.f, problem.z0)
    (first,) = torch.autograd.grad(solution.value.sum(), problem.parameters[0], create_graph=True)
    with pytest.raises(RuntimeError, match=r"taken once only.*Use adjoint=Unrolled\(\)"):
        first.sum().backward()


@pytest.mark.parametrize(("steps", "damping"), [(1, 0.0), (3, 0.0), (5, 0.5)])
def test_phantom_gradients_are_those_of_the_steps_after_the_solution(steps, damping):
    problem = PROBLEMS["tanh"]()
    cotangent = cotangent_of(problem)
    found = gradients(problem, cotangent, stop=TIGHT, adjoint=deq.Phantom(steps=steps, damping=damping))
    z = problem.solution()
    for _ in range(steps):
        z = damping * z + (1 - damping) * problem.f(z)
    expected = torch.autograd.grad((z * cotangent).sum(), problem.parameters)
    for left, right in zip(found, expected, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ["linear", "tanh", "convolution", "pair"])
def test_phantom_gradients_point_the_right_way_and_more_steps_point_better(name):
    problem = PROBLEMS[name]()
    cotangent = cotangent_of(problem)
    exact = exact_gradients(problem, cotangent)
    angles = [
        cosine(gradients(problem, cotangent, stop=TIGHT, adjoint=deq.Phantom(steps=steps)), exact)
        for steps in (1, 5, 40)
    ]
    assert angles[0] > 0.7
    assert angles[0] < angles[1] < angles[2]
    assert angles[2] > 1 - 1e-4


def test_the_value_is_the_same_with_and_without_autograd():
    problem = PROBLEMS["tanh"]()
    attached = deq.fixed_point(problem.f, problem.z0, record=(2,))
    with torch.no_grad():
        detached = deq.fixed_point(problem.f, problem.z0, record=(2,))
    assert torch.equal(attached.value, detached.value)
    assert torch.equal(attached.trajectory[0], detached.trajectory[0])
    assert attached.value.requires_grad
    assert not detached.value.requires_grad


def test_recorded_states_of_an_implicit_solve_carry_one_evaluations_gradient():
    problem = PROBLEMS["tanh"]()
    cotangent = cotangent_of(problem)
    solution = deq.fixed_point(problem.f, problem.z0, record=(3,))
    state = solution.trajectory[0]
    found = torch.autograd.grad((state * cotangent).sum(), problem.parameters)
    expected = torch.autograd.grad((problem.f(state.detach()) * cotangent).sum(), problem.parameters)
    for left, right in zip(found, expected, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)


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
    layer = deq.DEQ(stop=TIGHT, adjoint=deq.Implicit(stop=TIGHT))

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


@pytest.mark.parametrize("adjoint", [deq.Implicit(stop=TIGHT), deq.Phantom(steps=2), deq.Unrolled()])
def test_checkpointing_changes_nothing(adjoint):
    problem = PROBLEMS["tanh"]()

    def solve(inject):
        f = lambda z: torch.tanh(z @ problem.parameters[0].T + inject)  # noqa: E731  the closure is the point
        return deq.fixed_point(f, problem.z0, stop=TIGHT, adjoint=adjoint).value

    plain = torch.autograd.grad(solve(problem.parameters[1]).sum(), problem.parameters)
    kept = checkpoint(solve, problem.parameters[1], use_reentrant=False)
    for left, right in zip(torch.autograd.grad(kept.sum(), problem.parameters), plain, strict=True):
        assert torch.equal(left, right)


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
