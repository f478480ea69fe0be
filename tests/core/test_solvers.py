"""What sets one solver apart from another."""

import itertools
from typing import Any

import pytest
import torch
from tests.problems import PROBLEMS

import deq_core as deq
from deq_core._solvers import broyden

BROYDEN: Any = deq.Broyden()


def affine(symmetric, size=12, norm=0.95, seed=0):
    """f(u) = J u + b, and its fixed point."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(size, size, generator=generator, dtype=torch.float64)
    matrix = matrix + matrix.T if symmetric else matrix
    matrix = matrix * (norm / torch.linalg.matrix_norm(matrix, 2))
    shift = torch.randn(3, size, generator=generator, dtype=torch.float64)
    return lambda u: u @ matrix.T + shift, torch.linalg.solve(torch.eye(size, dtype=torch.float64) - matrix, shift.T).T


def solve(f, like, solver, steps=100, tol: float | None = 1e-10):
    with torch.no_grad():
        return deq.fixed_point(f, torch.zeros_like(like), solver=solver, stop=deq.Stop(steps, tol))


@pytest.mark.parametrize("norm", [0.95, 3.0])
def test_gmres_ends_with_the_dimension_of_the_space(norm):
    f, exact = affine(symmetric=False, norm=norm)
    solution = solve(f, exact, deq.GMRES(), steps=12 + 3)
    assert solution.converged.all()
    torch.testing.assert_close(solution.value, exact, rtol=1e-8, atol=1e-8)


def test_gmres_takes_the_iterates_of_a_least_squares_problem():
    f, exact = affine(symmetric=False)
    seen = []

    def recorded(u):
        seen.append(u)
        return f(u)

    solve(recorded, exact, deq.GMRES(), steps=8, tol=None)
    # The third direction's iterate, by a dense least-squares solve over span{r, Ar, A²r}.
    start = torch.zeros_like(exact)
    residual = f(start) - start
    krylov = [residual]
    for _ in range(2):
        krylov.append(krylov[-1] - (f(krylov[-1]) - f(start)))
    basis = torch.stack(krylov, dim=2)
    image = torch.stack([v - (f(v) - f(start)) for v in krylov], dim=2)
    iterate = (basis @ torch.linalg.lstsq(image, residual[:, :, None]).solution)[:, :, 0]
    torch.testing.assert_close(seen[4], f(iterate), rtol=1e-9, atol=1e-9)


def test_conjugate_residual_is_gmres_where_the_jacobian_is_symmetric():
    f, exact = affine(symmetric=True)
    stop = {"steps": 10, "tol": None}
    short, full = solve(f, exact, deq.ConjugateResidual(), **stop), solve(f, exact, deq.GMRES(), **stop)
    torch.testing.assert_close(short.trace, full.trace, rtol=1e-6, atol=1e-12)


def test_a_krylov_solver_that_starts_at_the_solution_stays():
    f, exact = affine(symmetric=False)
    with torch.no_grad():
        solution = deq.fixed_point(f, exact, solver=deq.GMRES(), stop=deq.Stop(10, None))
    torch.testing.assert_close(solution.value, exact, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("solver", [deq.GMRES(), deq.GMRES(memory=4), deq.ConjugateResidual()])
def test_krylov_solvers_solve_the_adjoint_equation(solver):
    problem = PROBLEMS["tanh"]()
    gradients = []
    for adjoint in (deq.Implicit(solver, deq.Stop(300, 1e-12)), deq.Implicit(deq.Broyden(), deq.Stop(60, 1e-13))):
        solution = deq.fixed_point(problem.f, problem.z0, stop=deq.Stop(100, 1e-13), adjoint=adjoint)
        gradients.append(torch.autograd.grad(solution.value.square().sum(), problem.parameters))
    for left, right in zip(*gradients, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-7, atol=1e-9)


def test_type_one_anderson_with_one_change_is_the_secant_method():
    seen = []

    def f(z):
        seen.append(z.item())
        return torch.cos(z)

    solution = solve(f, torch.zeros(1, 1, dtype=torch.float64), deq.TypeOneAnderson(window=1), tol=1e-14)
    z = [seen[0], seen[1]]
    for _ in range(3):
        g = [torch.cos(torch.tensor(point, dtype=torch.float64)).item() - point for point in z[-2:]]
        z.append(z[-1] - g[1] * (z[-1] - z[-2]) / (g[1] - g[0]))
    assert seen[2:5] == pytest.approx(z[2:], rel=1e-9)
    assert solution.nfe < 10


def test_a_long_anderson_window_is_gmres_on_an_affine_map():
    f, exact = affine(symmetric=False)
    anderson = solve(f, exact, deq.Anderson(window=20, ridge=0.0), steps=15)
    assert anderson.converged.all()
    assert anderson.steps.max() <= 14


@pytest.mark.parametrize("solver", [deq.Anderson(), deq.TypeOneAnderson()])
def test_a_relative_ridge_does_not_see_the_scale(solver):
    f, exact = affine(symmetric=False)
    plain = solve(f, exact, solver, steps=10, tol=None)
    small = solve(lambda u: 1e-6 * f(u * 1e6), exact, solver, steps=10, tol=None)
    torch.testing.assert_close(small.trace, plain.trace, rtol=1e-4, atol=0)


def kinked(z):
    """A contraction whose slope changes between pieces, on which extrapolation overshoots."""
    return 0.95 * torch.sin(3 * z) / 3 + torch.where(z > 0.2, 0.1 - 0.04 * z, 0.02 * z) + 0.1


def test_a_safeguarded_solver_never_accepts_growth():
    z0 = torch.linspace(-4, 4, 24, dtype=torch.float64).reshape(4, 6)
    evaluated = []

    def f(z):
        evaluated.append(z)
        return kinked(z)

    solver = deq.Safeguarded(deq.TypeOneAnderson(window=3))
    with torch.no_grad():
        solution = deq.fixed_point(f, z0, solver=solver, stop=deq.Stop(200, 1e-10))
        bare = deq.fixed_point(kinked, z0, solver=solver.solver, stop=deq.Stop(200, 1e-10))
    assert solution.converged.all()
    growth = bare.trace[1:] > bare.trace[:-1]
    assert growth.any(), "the problem does not test the safeguard"
    # A state that was rejected is followed by the image of an earlier one.
    gaps = torch.stack([(kinked(z) - z).norm(dim=1) for z in evaluated])
    images = [kinked(z) for z in evaluated]
    for sample in range(4):
        last = int(solution.steps[sample])
        accepted = 0
        for step in range(1, last):
            if gaps[step, sample] <= gaps[accepted, sample] or torch.equal(
                evaluated[step][sample], images[accepted][sample]
            ):
                accepted = step
            else:
                torch.testing.assert_close(evaluated[step + 1][sample], images[accepted][sample])


def test_a_safeguard_that_allows_everything_is_the_solver_itself():
    problem = PROBLEMS["tanh"]()
    stop = deq.Stop(12, None)
    with torch.no_grad():
        free = deq.fixed_point(problem.f, problem.z0, solver=deq.Safeguarded(growth=1e30), stop=stop)
        bare = deq.fixed_point(problem.f, problem.z0, solver=deq.Anderson(), stop=stop)
    assert torch.equal(free.trace, bare.trace)


@pytest.mark.parametrize("memory", [3, 5, 8])
def test_a_short_broyden_memory_restarts_and_still_converges(memory):
    problem = PROBLEMS["tanh"]()
    solution = solve(problem.f, problem.z0, deq.Broyden(memory=memory), tol=1e-12)
    assert solution.converged.all()


@pytest.mark.parametrize("stop", [deq.Stop(40, None), deq.Stop(40, 1e-3)])
@pytest.mark.parametrize("memory", [1, 4, None])
@pytest.mark.parametrize("name", ["tanh", "expanding", "one arrives", "one rests", "one fails", "constant"])
def test_broyden_keeps_the_system_that_it_would_build(monkeypatch, name, memory, stop):
    """To the last bit, also where samples give up their estimates at different evaluations."""

    def found():
        calls = itertools.count(1)
        problem = PROBLEMS["expanding" if name == "expanding" else "tanh"]()
        second = torch.arange(len(problem.z0))[:, None] == 1

        def f(z):
            image = problem.f(z)
            match name:
                case "one arrives":
                    return torch.where(second, torch.round(32 * image) / 64, image)
                case "one rests":
                    return torch.where(second & (next(calls) == 5), z, image)
                case "one fails":
                    return torch.where(second & (next(calls) > 6), torch.nan, image)
                case "constant":
                    return torch.ones_like(z)
            return image

        solution = deq.fixed_point(f, problem.z0, solver=deq.Broyden(memory), stop=stop, on_failure="ignore")
        return solution.value, solution.trace, solution.steps

    with torch.no_grad():
        kept = found()
        monkeypatch.setattr(broyden, "_may_look", lambda z: False)
        built = found()
    for left, right in zip(kept, built, strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=0, equal_nan=True)


def test_broyden_matches_the_dense_update():
    problem = PROBLEMS["expanding"]()
    seen = []

    def f(z):
        seen.append(z)
        return problem.f(z)

    with torch.no_grad():
        deq.fixed_point(f, problem.z0, solver=deq.Broyden(), stop=deq.Stop(6, None))
        for sample in range(3):
            points = [z[sample] for z in seen]
            gaps = [(problem.f(z) - z)[sample] for z in seen]
            inverse = -torch.eye(5, dtype=torch.float64)
            for k in range(5):
                torch.testing.assert_close(points[k + 1] - points[k], -inverse @ gaps[k], rtol=1e-8, atol=1e-10)
                step, change = points[k + 1] - points[k], gaps[k + 1] - gaps[k]
                row = step @ inverse
                inverse = inverse + torch.outer(step - inverse @ change, row) / (row @ change)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: deq.TypeOneAnderson(window=0), ValueError, "window must be at least 1"),
        (lambda: deq.TypeOneAnderson(ridge=-1.0), ValueError, "ridge must be at least 0"),
        (lambda: deq.GMRES(memory=0), ValueError, "memory must be None or at least 1"),
        (lambda: deq.Safeguarded(growth=0.0), ValueError, "growth must be above 0"),
        (lambda: deq.Safeguarded(BROYDEN), TypeError, "solver must be Anderson"),
    ],
)
def test_impossible_settings_fail_at_construction(build, error, message):
    with pytest.raises(error, match=message):
        build()


@pytest.mark.parametrize("solver", [deq.FixedPointIteration(), deq.Anderson(), deq.Broyden(), deq.GMRES()])
def test_solvers_meet_the_protocol(solver):
    assert isinstance(solver, deq.Solver)
    assert hash(solver) == hash(type(solver)())
