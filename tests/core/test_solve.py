"""Laws of a solve: what is returned, for whom, and what is refused."""

import math

import pytest
import torch
from tests.problems import ACCELERATED, PROBLEMS, SOLVERS, TIGHT, row_wise

import deq_core as deq


@pytest.mark.parametrize(
    ("name", "solver"), [(n, s) for n in PROBLEMS for s in SOLVERS if n != "expanding" or s in ACCELERATED]
)
def test_every_solver_finds_the_known_answer(name, solver):
    problem = PROBLEMS[name]()
    solution = deq.fixed_point(problem.f, problem.z0, solver=SOLVERS[solver], stop=deq.Stop(400, 1e-12))
    assert solution.converged.all()
    found, known = problem.leaves(solution.value), problem.leaves(problem.solution())
    torch.testing.assert_close(found, known, rtol=0, atol=1e-10)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_sample_gets_the_result_it_has_alone(solver):
    f_of, z0 = row_wise()
    stop = deq.Stop(200, 1e-9)
    together = deq.fixed_point(f_of(slice(None)), z0, solver=SOLVERS[solver], stop=stop)
    assert len(set(together.steps.tolist())) > 1
    for sample in range(len(z0)):
        rows = slice(sample, sample + 1)
        alone = deq.fixed_point(f_of(rows), z0[rows], solver=SOLVERS[solver], stop=stop)
        assert alone.steps.item() == together.steps[sample].item()
        torch.testing.assert_close(alone.value, together.value[rows], rtol=0, atol=1e-15)
        evaluations = len(alone.trace)
        torch.testing.assert_close(alone.trace[:, 0], together.trace[:evaluations, sample], rtol=1e-6, atol=0)
        assert (together.trace[evaluations:, sample] == together.trace[evaluations - 1, sample]).all()


@pytest.mark.parametrize("solver", SOLVERS)
def test_residual_is_that_of_the_evaluation_that_gave_the_value(solver):
    problem = PROBLEMS["tanh"]()
    stop = deq.Stop(9, None)
    solution = deq.fixed_point(problem.f, problem.z0, solver=SOLVERS[solver], stop=stop)
    assert torch.equal(solution.residual, solution.trace.amin(0))
    assert torch.equal(solution.steps - 1, solution.trace.argmin(0))
    assert solution.trace.shape == (9, 4)


@pytest.mark.parametrize("name", ["tanh", "expanding"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_residuals_are_those_of_the_states_that_shorter_solves_return(name, solver):
    problem = PROBLEMS[name]()
    every = range(1, 10)
    solution = deq.fixed_point(
        problem.f, problem.z0, solver=SOLVERS[solver], stop=deq.Stop(9, 1e-4), record=every, on_failure="ignore"
    )
    residuals = solution.residuals(9)
    for steps in every:
        stop = deq.Stop(steps, 1e-4)
        shorter = deq.fixed_point(problem.f, problem.z0, solver=SOLVERS[solver], stop=stop, on_failure="ignore")
        torch.testing.assert_close(solution.trajectory[steps - 1], shorter.value, rtol=0, atol=0)
        torch.testing.assert_close(residuals[steps - 1], shorter.residual, rtol=0, atol=0)


@pytest.mark.parametrize("norm", [deq.two_norm, deq.rms_norm, deq.max_norm])
@pytest.mark.parametrize("relative", [True, False])
def test_residual_means_what_stop_says(norm, relative):
    z0 = torch.tensor([[3.0, 4.0], [1.0, 0.0]], dtype=torch.float64)
    solution = deq.fixed_point(lambda z: z / 2, z0, stop=deq.Stop(1, None, relative=relative, norm=norm))
    gap, image = norm(z0 / 2), norm(z0 / 2)
    torch.testing.assert_close(solution.residual, gap / image if relative else gap)


def test_norms_are_per_sample():
    x = torch.tensor([[3.0, -4.0], [0.0, 1.0]], dtype=torch.float64)
    assert deq.two_norm(x).tolist() == [5.0, 1.0]
    assert deq.max_norm(x).tolist() == [4.0, 1.0]
    torch.testing.assert_close(deq.rms_norm(x), torch.tensor([math.sqrt(12.5), math.sqrt(0.5)], dtype=torch.float64))


def test_relative_residual_does_not_depend_on_scale():
    problem = PROBLEMS["linear"]()
    scale = 1e-12
    plain = deq.fixed_point(problem.f, problem.z0, stop=deq.Stop(10, None))
    small = deq.fixed_point(lambda z: scale * problem.f(z / scale), problem.z0, stop=deq.Stop(10, None))
    torch.testing.assert_close(plain.trace, small.trace, rtol=1e-6, atol=0)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_recorded_state_is_what_a_shorter_solve_returns(solver):
    problem = PROBLEMS["pair"]()
    record = (1, 3, 4, 7)
    long = deq.fixed_point(problem.f, problem.z0, solver=SOLVERS[solver], stop=deq.Stop(8, None), record=record)
    for steps, state in zip(record, long.trajectory, strict=True):
        short = deq.fixed_point(problem.f, problem.z0, solver=SOLVERS[solver], stop=deq.Stop(steps, None))
        for left, right in zip(state, short.value, strict=True):
            assert torch.equal(left, right)


@pytest.mark.parametrize("adjoint", [deq.Implicit(), deq.Phantom(), deq.Unrolled()])
def test_recorded_states_survive_early_convergence(adjoint):
    problem = PROBLEMS["linear"]()
    record = (2, 50, 90, 100)
    solution = deq.fixed_point(problem.f, problem.z0, stop=deq.Stop(100, 1e-6), adjoint=adjoint, record=record)
    assert len(solution.trace) < 50
    assert len(solution.trajectory) == len(record)
    for state in solution.trajectory[1:]:
        torch.testing.assert_close(state, solution.value, rtol=0, atol=1e-15)
    assert all(state.requires_grad for state in solution.trajectory)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("tol", [None, 1e-10])
def test_a_failing_sample_keeps_its_best_state_and_leaves_others_alone(solver, tol):
    f_of, z0 = row_wise(batch=3)
    f = f_of(slice(None))
    calls = 0

    def breaking(z):
        nonlocal calls
        calls += 1
        image = f(z)
        return torch.where(torch.tensor([[False], [calls > 4], [False]]), torch.inf, image)

    stop = deq.Stop(60, tol)
    solution = deq.fixed_point(breaking, z0, solver=SOLVERS[solver], stop=stop, on_failure="ignore")
    sound = deq.fixed_point(f, z0, solver=SOLVERS[solver], stop=stop, on_failure="ignore")
    short = deq.fixed_point(f, z0, solver=SOLVERS[solver], stop=deq.Stop(4, None))
    assert solution.value.isfinite().all()
    torch.testing.assert_close(solution.value[[0, 2]], sound.value[[0, 2]], rtol=0, atol=1e-15)
    torch.testing.assert_close(solution.value[1], short.value[1], rtol=0, atol=0)
    assert solution.outcome[1] == "not finite"
    assert solution.steps[1] <= 4


def test_a_sample_that_is_never_finite_keeps_its_start():
    z0 = torch.ones(2, 3)
    image = torch.tensor([[0.5], [float("nan")]]).expand(2, 3)
    solution = deq.fixed_point(lambda z: image, z0, stop=deq.Stop(5, 1e-3), on_failure="ignore")
    assert torch.equal(solution.value, torch.tensor([[0.5] * 3, [1.0] * 3]))
    assert solution.steps.tolist() == [2, 0]
    assert solution.converged.tolist() == [True, False]
    assert solution.residual[1] == torch.inf


def test_without_a_tolerance_every_evaluation_is_made_and_nothing_claims_convergence():
    calls = []
    with torch.no_grad():
        solution = deq.fixed_point(lambda z: calls.append(0) or z / 2, torch.zeros(2, 3), stop=deq.Stop(7, None))
    assert len(calls) == solution.nfe == 7
    assert not solution.converged.any()


def test_nfe_counts_the_evaluations_that_attach_gradients():
    problem = PROBLEMS["linear"]()
    calls = []

    def f(z):
        calls.append(0)
        return problem.f(z)

    stop = deq.Stop(6, None)
    for adjoint, expected in ((deq.Unrolled(), 6), (deq.Phantom(steps=3), 9), (deq.Implicit(), 7)):
        calls.clear()
        solution = deq.fixed_point(f, problem.z0, stop=stop, adjoint=adjoint)
        assert len(calls) == solution.nfe == expected


@pytest.mark.parametrize("solver", SOLVERS)
def test_an_empty_batch_is_solved(solver):
    with torch.no_grad():
        solution = deq.fixed_point(torch.cos, torch.zeros(0, 4), solver=SOLVERS[solver])
    assert solution.value.shape == (0, 4)
    assert solution.residual.shape == solution.steps.shape == solution.converged.shape == (0,)
    assert solution.describe() == "0 samples, 1 evaluations"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("solver", SOLVERS)
def test_the_state_keeps_its_dtype(solver, dtype):
    stop = deq.Stop(40, 2e-2)
    solution = deq.fixed_point(torch.cos, torch.zeros(2, 3, dtype=dtype), solver=SOLVERS[solver], stop=stop)
    assert solution.value.dtype == dtype
    assert solution.converged.all()
    torch.testing.assert_close(
        solution.value.double(), torch.full((2, 3), 0.7390851332, dtype=torch.float64), atol=2e-2, rtol=0
    )
    assert solution.residual.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)


def test_leaves_of_different_dtypes_keep_theirs():
    seen = []

    def f(a, b):
        seen.append((a.dtype, b.dtype))
        return a / 2 + 1, b / 2 + 1

    z0 = (torch.zeros(2, 3, dtype=torch.bfloat16), torch.zeros(2, 4, dtype=torch.float64))
    solution = deq.fixed_point(f, z0)
    assert {*seen} == {(torch.bfloat16, torch.float64)}
    assert [leaf.dtype for leaf in solution.value] == [torch.bfloat16, torch.float64]


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_start_that_is_the_solution_is_returned_after_one_evaluation(solver):
    problem = PROBLEMS["linear"]()
    solution = deq.fixed_point(problem.f, problem.solution(), solver=SOLVERS[solver], stop=deq.Stop(50, 1e-10))
    assert solution.steps.tolist() == [1, 1, 1]
    assert len(solution.trace) == 1


@pytest.mark.parametrize("solver", SOLVERS)
def test_iterating_past_the_solution_stays_there(solver):
    stop = deq.Stop(150, None, relative=False)
    solution = deq.fixed_point(lambda z: z / 4, torch.ones(2, 3), solver=SOLVERS[solver], stop=stop)
    assert solution.value.isfinite().all()
    assert solution.value.abs().max() < 1e-12


def test_the_callers_tensors_are_left_alone():
    problem = PROBLEMS["tanh"]()
    z0 = problem.z0.clone()
    for solver in SOLVERS.values():
        deq.fixed_point(problem.f, z0, solver=solver, stop=TIGHT)
        assert torch.equal(z0, problem.z0)


def test_it_runs_in_inference_mode():
    with torch.inference_mode():
        solution = deq.fixed_point(torch.cos, torch.zeros(2, 3))
    assert solution.converged.all()


def test_describe_says_how_the_solve_went():
    with torch.no_grad():
        solution = deq.fixed_point(lambda z: z / 2 + 1, torch.zeros(3, 2), solver=deq.FixedPointIteration())
    expected = "3 of 3 samples converged in 14 steps: residual 6.10e-05 median, 6.10e-05 worst, 14 evaluations"
    assert solution.describe() == expected


def test_describe_tells_those_that_converged_from_those_that_did_not():
    slope = torch.tensor([[0.5], [0.5], [1.0], [-1.0]], dtype=torch.float64)
    with torch.no_grad():
        solve = {"solver": deq.FixedPointIteration(), "stop": deq.Stop(20, 1e-4), "on_failure": "ignore"}
        some = deq.fixed_point(lambda z: slope * z + 1, torch.zeros_like(slope), **solve)
        none = deq.fixed_point(lambda z: -z + 1, torch.zeros(3, 2), **solve)
    assert some.describe() == (
        "2 of 4 samples converged in 14 steps, 2 out of steps: residual 5.00e-02 median, 1.00e+00 worst, 20 evaluations"
    )
    assert none.describe() == (
        "0 of 3 samples converged, 3 out of steps: residual 1.00e+00 median, 1.00e+00 worst, 20 evaluations"
    )


def test_the_layer_stops_by_its_mode_and_by_nothing_else():
    problem = PROBLEMS["linear"]()
    layer = deq.nn.DEQ(stop=deq.Stop(5, None), eval_stop=deq.Stop(9, None), adjoint=deq.Unrolled())
    training = layer(problem.f, problem.z0, record=(2,))
    layer.eval()
    evaluation = layer(problem.f, problem.z0)
    assert (len(training.trace), len(evaluation.trace)) == (5, 9)
    assert training.value.requires_grad
    assert evaluation.value.requires_grad
    assert len(training.trajectory) == 1
    assert "eval_stop=Stop(max_steps=9" in repr(layer)
    layer.eval_stop = None
    assert len(layer(problem.f, problem.z0).trace) == 5
