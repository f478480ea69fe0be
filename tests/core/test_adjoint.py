"""Gradients: exact where they claim to be, bounded where they do not."""

import gc
from functools import partial

import pytest
import torch
from tests.gradients import cosine, cotangent_of, exact_gradients, gradients
from tests.problems import ACCELERATED, PROBLEMS, SOLVERS, TIGHT

import deq_core as deq
from deq_core._solvers.broyden import Steps


@pytest.mark.parametrize(
    ("name", "forward", "backward"),
    [
        (n, f, b)
        for n in PROBLEMS
        for f, b in [("anderson", b) for b in SOLVERS] + [("damped", "broyden"), ("broyden", "damped")]
        if n != "expanding" or {f, b} <= {*ACCELERATED}
    ],
)
def test_implicit_gradients_are_exact_with_every_solver(name, forward, backward):
    problem = PROBLEMS[name]()
    cotangent = cotangent_of(problem)
    adjoint = deq.Implicit(solver=SOLVERS[backward], stop=TIGHT)
    found = gradients(problem, cotangent, solver=SOLVERS[forward], stop=TIGHT, adjoint=adjoint)
    for left, right in zip(found, exact_gradients(problem, cotangent), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("eigenvalue", [0.999, 1.001])
def test_by_default_a_sample_next_to_a_singular_equation_does_not_outweigh_a_batch(eigenvalue):
    """Exact adjoints are a hundred times the incoming gradient; the default's stay below its number of steps."""
    generator = torch.Generator().manual_seed(0)
    incoming, mixed = (torch.randn(16, 64, dtype=torch.float64, generator=generator) for _ in range(2))
    basis = torch.linalg.qr(torch.randn(64, 64, dtype=torch.float64, generator=generator)).Q
    values = torch.linspace(-0.8, 0.8, 64, dtype=torch.float64)
    values[-1] = eigenvalue

    def gains(adjoint):
        inject = mixed.clone().requires_grad_()
        f = lambda z: (z @ basis * values) @ basis.T + inject  # noqa: E731
        options = {"stop": deq.Stop(20), "adjoint": adjoint, "on_failure": "ignore"}
        value = deq.fixed_point(f, torch.zeros_like(mixed), **options).value
        (found,) = torch.autograd.grad((value * incoming).sum(), inject)
        return found.norm(dim=1) / incoming.norm(dim=1)

    default = deq.Implicit(on_failure="ignore")
    assert gains(deq.Implicit(stop=deq.Stop(40, 1e-6), on_failure="ignore")).max() > 100
    assert gains(default).max() < default.stop.max_steps


@pytest.mark.parametrize("name", ["tanh", "pair"])
def test_by_default_gradients_are_exact_to_a_part_in_a_hundred_where_f_contracts(name):
    problem = PROBLEMS[name]()
    cotangent = cotangent_of(problem)
    found = gradients(problem, cotangent, stop=TIGHT)
    for left, right in zip(found, exact_gradients(problem, cotangent), strict=True):
        assert (left - right).norm() < 1e-2 * right.norm()


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", ["tanh", "pair"])
def test_unrolled_gradients_converge_to_the_exact_ones(name, solver):
    problem = PROBLEMS[name]()
    cotangent = cotangent_of(problem)
    found = gradients(problem, cotangent, solver=SOLVERS[solver], stop=deq.Stop(400, 1e-14), adjoint=deq.Unrolled())
    for left, right in zip(found, exact_gradients(problem, cotangent), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "adjoint", [deq.Implicit(stop=TIGHT), deq.Unrolled(), deq.SHINE(refine=deq.Implicit(stop=TIGHT))]
)
def test_gradcheck(adjoint):
    problem = PROBLEMS["tanh"]()
    weight, inject = (parameter.detach()[:2, :2].clone().requires_grad_() for parameter in problem.parameters)

    def solve(weight, inject):
        f = lambda z: torch.tanh(z @ weight.T + inject)  # noqa: E731  the closure is the point
        z0 = torch.zeros(2, 2, dtype=torch.float64)
        return deq.fixed_point(f, z0, solver=deq.Broyden(), stop=deq.Stop(60, 1e-13), adjoint=adjoint).value

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


@pytest.mark.parametrize(
    "solver",
    [deq.Anderson(ridge=0.0), deq.Anderson(ridge=0.0, relative_ridge=False), deq.TypeOneAnderson(ridge=0.0)],
)
def test_without_a_ridge_a_sample_that_has_ended_unrolls_to_the_gradient_it_has_alone(solver):
    x = torch.linspace(-1, 1, 15, dtype=torch.float64).reshape(3, 5)
    rates = torch.tensor([[0.02], [0.3], [0.8]], dtype=torch.float64)

    def gradient(rows):
        inject = x[rows].requires_grad_()
        f = lambda z: torch.sin(rates[rows] * z.roll(1, 1) + inject)  # noqa: E731  the closure is the point
        solution = deq.fixed_point(f, 0 * x[rows], solver=solver, stop=deq.Stop(30, 1e-5), adjoint=deq.Unrolled())
        return torch.autograd.grad(solution.value.sum(), inject)[0]

    alone = torch.cat([gradient([row]) for row in range(3)])
    torch.testing.assert_close(gradient([0, 1, 2]), alone, rtol=1e-8, atol=0)


def test_unrolled_gradients_reach_the_start():
    z0 = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
    stop = deq.Stop(3, None, relative=False)
    solution = deq.fixed_point(lambda z: z / 2, z0, solver=deq.FixedPointIteration(), stop=stop, adjoint=deq.Unrolled())
    (gradient,) = torch.autograd.grad(solution.value.sum(), z0)
    assert torch.equal(gradient, torch.full_like(z0, 0.125))


@pytest.mark.parametrize("adjoint", [deq.Implicit(), deq.JacobianFree(), deq.Truncated(), deq.SHINE()])
def test_a_second_derivative_of_an_implicit_gradient_is_refused(adjoint):
    problem = PROBLEMS["linear"]()
    solution = deq.fixed_point(problem.f, problem.z0, solver=deq.Broyden(), adjoint=adjoint)
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


def test_recorded_phantom_steps_are_supervised_states():
    problem = PROBLEMS["tanh"]()
    adjoint = deq.Phantom(steps=5, damping=0.2, record=(1, 4))
    solution = deq.fixed_point(problem.f, problem.z0, adjoint=adjoint, record=(3, 6), stop=deq.Stop(9, None))
    assert len(solution.trajectory) == 2 * 3 + 2
    states = (*solution.trajectory, solution.value)
    for i, solved in enumerate((3, 6, 9)):
        for j, steps in enumerate((1, 4, 5)):
            shorter = deq.Phantom(steps=steps, damping=0.2)
            expected = deq.fixed_point(problem.f, problem.z0, adjoint=shorter, stop=deq.Stop(solved, None)).value
            found = torch.autograd.grad(states[3 * i + j].sum(), problem.parameters, retain_graph=True)
            for left, right in zip(found, torch.autograd.grad(expected.sum(), problem.parameters), strict=True):
                torch.testing.assert_close(left, right, rtol=1e-12, atol=1e-12)
            torch.testing.assert_close(states[3 * i + j], expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("record", [(0, 2), (2, 1), (3,), (2, 2)])
def test_recorded_phantom_steps_come_before_the_last(record):
    with pytest.raises(ValueError, match="record must be increasing steps from 1 to 2"):
        deq.Phantom(steps=3, record=record)


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


@pytest.mark.parametrize("name", ["linear", "tanh", "convolution", "pair"])
def test_truncated_gradients_converge_geometrically(name):
    problem = PROBLEMS[name]()
    cotangent = cotangent_of(problem)
    exact = exact_gradients(problem, cotangent)

    def error(terms):
        found = gradients(problem, cotangent, stop=TIGHT, adjoint=deq.Truncated(terms))
        return sum((left - right).norm().item() for left, right in zip(found, exact, strict=True))

    errors = [error(terms) for terms in (1, 4, 16, 64)]
    assert errors[0] > errors[1] > errors[2] > errors[3]
    assert errors[3] < 1e-4 * errors[0]


def test_jacobian_free_is_one_term_and_one_phantom_step():
    problem = PROBLEMS["tanh"]()
    cotangent = cotangent_of(problem)
    adjoints = (deq.JacobianFree(), deq.Truncated(1), deq.Phantom())
    first, *others = (gradients(problem, cotangent, stop=TIGHT, adjoint=adjoint) for adjoint in adjoints)
    for other in others:
        for left, right in zip(first, other, strict=True):
            torch.testing.assert_close(left, right, rtol=1e-11, atol=1e-11)


def test_the_estimate_shine_shares_is_the_transpose_of_broydens():
    problem = PROBLEMS["tanh"]()
    seen = []

    def f(z):
        seen.append(z)
        return problem.f(z)

    stop = deq.Stop(7, None)
    solution = deq.fixed_point(f, problem.z0, solver=deq.Broyden(), stop=stop, adjoint=deq.SHINE())
    cotangent = cotangent_of(problem)
    found = torch.autograd.grad((solution.value * cotangent).sum(), problem.parameters[1])[0]
    u = []
    with torch.no_grad():
        for sample in range(len(cotangent)):
            points = [z[sample] for z in seen[:7]]
            gaps = [(problem.f(z) - z)[sample] for z in seen[:7]]
            inverse = -torch.eye(8, dtype=torch.float64)
            for k in range(int(solution.steps[sample]) - 2):
                step, change = points[k + 1] - points[k], gaps[k + 1] - gaps[k]
                row = step @ inverse
                inverse = inverse + torch.outer(step - inverse @ change, row) / (row @ change)
            u.append(-inverse.T @ cotangent[sample])
    image = problem.f(solution.value.detach())
    expected = torch.autograd.grad(image, problem.parameters[1], torch.stack(u))[0]
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", ["linear", "tanh", "convolution", "pair"])
def test_shine_points_the_right_way(name):
    problem = PROBLEMS[name]()
    cotangent = cotangent_of(problem)
    found = gradients(problem, cotangent, solver=deq.Broyden(), stop=deq.Stop(100, 1e-12), adjoint=deq.SHINE())
    assert cosine(found, exact_gradients(problem, cotangent)) > 0.88


def test_shine_refined_is_exact():
    problem = PROBLEMS["expanding"]()
    cotangent = cotangent_of(problem)
    adjoint = deq.SHINE(refine=deq.Implicit(stop=TIGHT))
    found = gradients(problem, cotangent, solver=deq.Broyden(), stop=TIGHT, adjoint=adjoint)
    for left, right in zip(found, exact_gradients(problem, cotangent), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-10)


def one_row(weight, row, z):
    return torch.tanh(z @ weight.T + row)


def test_shine_gives_every_sample_the_gradient_it_has_alone():
    problem = PROBLEMS["tanh"]()
    weight, inject = problem.parameters
    options = {"solver": deq.Broyden(), "stop": deq.Stop(60, 1e-8), "adjoint": deq.SHINE()}
    solution = deq.fixed_point(problem.f, problem.z0, **options)
    assert len(set(solution.steps.tolist())) > 1
    (together,) = torch.autograd.grad(solution.value.square().sum(), inject)
    for sample in range(4):
        row = inject[sample : sample + 1].detach().requires_grad_()
        alone = deq.fixed_point(partial(one_row, weight, row), problem.z0[:1], **options)
        (gradient,) = torch.autograd.grad(alone.value.square().sum(), row)
        torch.testing.assert_close(gradient[0], together[sample], rtol=1e-6, atol=1e-9)


def test_shine_holds_the_steps_that_were_taken_and_no_more():
    gc.collect()
    problem = PROBLEMS["tanh"]()
    solution = deq.fixed_point(
        problem.f, problem.z0, solver=deq.Broyden(), stop=deq.Stop(500, 1e-3), adjoint=deq.SHINE()
    )
    (memory,) = [found for found in gc.get_objects() if type(found) is Steps]
    assert memory.steps.shape[1] == memory.count == len(solution.trace) - 1
    assert memory.steps.untyped_storage().nbytes() == memory.count * problem.z0.untyped_storage().nbytes()


@pytest.mark.parametrize("wrap", [lambda rule: rule, lambda rule: deq.SHINE(refine=rule)], ids=["implicit", "shine"])
def test_a_backward_solve_that_fails_says_so_when_asked(wrap):
    problem = PROBLEMS["tanh"]()

    def backward(on_failure, steps):
        rule = deq.Implicit(stop=deq.Stop(steps, 1e-9), on_failure=on_failure)
        options = {"solver": deq.Broyden(), "stop": deq.Stop(60, 1e-9), "adjoint": wrap(rule)}
        deq.fixed_point(problem.f, problem.z0, **options).value.sum().backward()

    backward("ignore", 2)
    backward("raise", 60)
    with pytest.warns(deq.ConvergenceWarning, match=r"4 of 4 samples of a backward pass did not reach .* 1e-09 in 2"):
        backward("warn", 2)
    with pytest.raises(deq.ConvergenceError, match="of a backward pass"):
        backward("raise", 2)


@pytest.mark.parametrize("adjoint", [deq.Implicit(), deq.Truncated(), deq.SHINE(refine=deq.Implicit())])
def test_an_f_that_is_another_one_in_the_backward_pass_is_refused(adjoint):
    """Be its values as large and of the same mean, as behind a layer norm."""
    weight = torch.eye(4, dtype=torch.float64, requires_grad=True)
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(2, 4, dtype=torch.float64, generator=generator) for _ in range(2)]
    solve = partial(deq.fixed_point, z0=torch.zeros(2, 4, dtype=torch.float64), solver=deq.Broyden(), adjoint=adjoint)

    def f(z, x):
        return torch.nn.functional.layer_norm(0.3 * torch.tanh(z @ weight) + x, (4,))

    late, bound = torch.zeros(2, dtype=torch.float64)
    for x in inputs:
        late = late + solve(lambda z: f(z, x)).value[:, 0].sum()  # noqa: B023  the fault itself
        bound = bound + solve(lambda z, x=x: f(z, x)).value[:, 0].sum()
    bound.backward()
    with pytest.raises(RuntimeError, match="f has changed between the solve and the backward pass"):
        late.backward()


def test_a_step_of_an_optimizer_between_two_backward_passes_is_named():
    layer = torch.nn.Linear(4, 4)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1.0)
    loss = deq.fixed_point(lambda z: 0.3 * torch.tanh(layer(z)) + 1, torch.zeros(2, 4)).value.sum()
    loss.backward(retain_graph=True)
    optimizer.step()
    with pytest.raises(RuntimeError, match=r"Weights and modes .* call optimizer\.step\(\) after"):
        loss.backward()


def test_shine_needs_broyden():
    problem = PROBLEMS["linear"]()
    with pytest.raises(ValueError, match=r"solve with solver=Broyden\(\)"):
        deq.fixed_point(problem.f, problem.z0, adjoint=deq.SHINE())


def test_shine_refuses_an_estimate_that_was_given_up():
    problem = PROBLEMS["tanh"]()
    with pytest.raises(ValueError, match=r"Broyden\(memory=3\) gave up earlier ones in 8;"):
        deq.fixed_point(
            problem.f, problem.z0, solver=deq.Broyden(memory=3), stop=deq.Stop(8, None), adjoint=deq.SHINE()
        )


def test_impossible_settings_fail_at_construction():
    with pytest.raises(ValueError, match="terms must be a whole number"):
        deq.Truncated(0)
