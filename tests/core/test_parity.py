"""The solvers of torchdeq 0.1 and of the older DEQ code, reproduced in their settings.

torchdeq's Anderson makes two evaluations, its Broyden one, before the first that it traces; its Broyden returns the
state whose image is returned here. All runs recorded are compared. What is compared in part, and why:

- `broyden40_lbfgs5`: torchdeq overwrites its oldest update while later ones that were made with it stay. Here the
  estimate begins again when memory is full, so the runs agree until then.
- `broyden20_ls`: torchdeq makes one line search for the whole batch. Here every sample makes its own, so the test
  brings a search that decides for the batch, and by torchdeq's interpolation.
"""

from typing import ClassVar

import pytest
import torch
from tests.released import GOLDEN, Golden, named

import deq_core as deq

UNTRACED = {"fixed_point_iter": 0, "simple_fixed_point_iter": 0, "anderson": 2, "broyden": 1}


@pytest.fixture
def golden():
    return Golden()


class OfTheBatch(deq.Armijo):
    """torchdeq's search: one length for the batch, with φ'(0) = -φ(0). The second trial is made but not judged."""

    first: ClassVar[list[float]] = []
    """Length and value of the trial before."""

    def judge(self, trial):
        """The same verdict for every sample."""
        start, value, length = float(trial.start.sum()), float(trial.value.sum()), float(trial.length[0])
        count = int(trial.count[0])
        accepted, shorter = value <= start - 1e-4 * length * start, length
        if count == 1 and not accepted:
            shorter = start * length**2 / 2 / (value - start + start * length)
        elif count == 2:
            # The minimum of the cubic through both trials.
            (earlier, before), accepted = self.first, False
            model = [earlier**2, length**2]
            rest = [value - start + start * length, before - start + start * earlier]
            scale = model[0] * model[1] * (length - earlier)
            a = (model[0] * rest[0] - model[1] * rest[1]) / scale
            b = (-(earlier**3) * rest[0] + length**3 * rest[1]) / scale
            shorter = (-b + abs(b**2 + 3 * a * start) ** 0.5) / (3 * a)
        self.first[:] = (length, value)
        assert accepted or count < 3, "the recorded run needs no fourth trial"
        every = torch.ones_like(trial.value)
        return every == (1 if accepted else 0), shorter * every, every == 0


def released(run):
    """The run's solver in our words."""
    options = run["kwargs"]
    damping = 1 - options.get("tau", 1.0)
    match run["solver"]:
        case "anderson":
            return deq.Anderson(options.get("m", 6), options.get("lam", 1e-4), damping, relative_ridge=False)
        case "broyden":
            memory = options.get("LBFGS_thres")
            return deq.LineSearchBroyden(memory, OfTheBatch()) if options.get("ls") else deq.Broyden(memory)
    return deq.FixedPointIteration(damping)


def run_all(golden, solver, evaluations, record=()):
    """Every evaluation's argument is in `golden.seen` afterwards."""
    stop = deq.Stop(evaluations, None, relative=False)
    with torch.no_grad():
        return deq.fixed_point(golden.f, golden.z0, solver=solver, stop=stop, record=record)


@pytest.mark.parametrize("name", GOLDEN["solvers"])
def test_solvers_retrace_the_released_ones(golden, name):
    run = GOLDEN["solvers"][name]
    solver, skipped = released(run), UNTRACED[run["solver"]]
    solution = run_all(golden, solver, run["f_calls"])
    damping = 1 - run["kwargs"].get("tau", 1.0)
    points, trace = torch.stack(golden.seen), solution.trace
    if run["kwargs"].get("ls"):
        # torchdeq traces the steps it takes: the trials whose residual is not above the last one's.
        taken = [0]
        for evaluation in range(1, len(trace)):
            if trace[evaluation].norm() <= trace[taken[-1]].norm():
                taken.append(evaluation)
        assert len(taken) == 21 < len(trace) == 23
        points, trace = points[taken], trace[taken]
    trace = trace[skipped:].T
    # The damped iteration's release traces the damped difference.
    trace = trace * (1 - damping) if run["solver"] == "fixed_point_iter" else trace
    expected = torch.tensor(run["abs_trace"], dtype=torch.float64)[:, : trace.shape[1]]
    # Broyden's rounding is amplified, and a full memory begins again.
    comparable = {"broyden": run["kwargs"].get("LBFGS_thres", 12)}.get(run["solver"], 40)
    compared = min(comparable, expected.shape[1])
    assert compared == (0 if run["solver"] == "simple_fixed_point_iter" else min(comparable, trace.shape[1]))
    torch.testing.assert_close(trace[:, :compared], expected[:, :compared], rtol=1e-6, atol=1e-13)

    head = torch.tensor(run["z_head"], dtype=torch.float64)
    if "LBFGS_thres" in run["kwargs"]:
        torch.testing.assert_close(solution.value[:, :8], head, rtol=0, atol=1e-7)  # both near the solution
    elif run["solver"] == "broyden":
        steps = [-1] * 4 if run["kwargs"].get("return_final") else torch.tensor(run["abs_trace"]).argmin(1).tolist()
        last = torch.stack([points[skipped:][step][sample] for sample, step in enumerate(steps)])
        torch.testing.assert_close(last[:, :8], head, rtol=0, atol=1e-8)
    else:
        damped = run["solver"] == "fixed_point_iter"
        last = damping * points[-1] + (1 - damping) * solution.value if damped else solution.value
        torch.testing.assert_close(last[:, :8], head, rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", ["fp_rel1e-3", "anderson_rel1e-3", "broyden_rel1e-3"])
def test_tolerances_are_reached_after_as_many_evaluations(golden, name):
    run = GOLDEN["solvers"][name]
    with torch.no_grad():
        solution = deq.fixed_point(golden.f, golden.z0, solver=released(run), stop=deq.Stop(100, 1e-3))
    assert solution.nfe == run["f_calls"]
    assert solution.converged.all()


@pytest.mark.parametrize("name", ["fp_indexing", "anderson_indexing"])
def test_indexed_states_are_the_recorded_ones(golden, name):
    run = GOLDEN["solvers"][name]
    solution = run_all(golden, released(run), run["f_calls"], record=run["kwargs"]["indexing"])
    heads = torch.stack([state[0, :4] for state in solution.trajectory])
    torch.testing.assert_close(heads, torch.tensor(run["indexed_head"], dtype=torch.float64), rtol=0, atol=1e-9)


def test_the_states_that_torchdeqs_broyden_indexes_are_one_step_behind(golden):
    """ "At k" is the best argument among the evaluations 2 to k."""
    run = GOLDEN["solvers"]["broyden_indexing"]
    solution = run_all(golden, released(run), run["f_calls"])
    for k, head in zip(run["kwargs"]["indexing"][:3], run["indexed_head"][:3], strict=True):
        best = 1 + int(solution.trace[1:k, 0].argmin())
        assert golden.seen[best][0, :4].tolist() == pytest.approx(head, abs=1e-9)


def of_older(name, run):
    options = run["kwargs"]
    if name.startswith("anderson"):
        return deq.Anderson(6, 1e-4, relative_ridge=False), 2, 1e-5
    return deq.LineSearchBroyden(line_search=OfTheBatch()) if options.get("ls") else deq.Broyden(), 1, 1e-9


@pytest.mark.parametrize("name", GOLDEN["older"])
def test_the_older_code_takes_the_same_steps_and_judges_the_batch(golden, name):
    run = GOLDEN["older"][name]
    solver, skipped, floor = of_older(name, run)
    solution = run_all(golden, solver, run["f_calls"])
    gaps = solution.trace[skipped:].norm(dim=1)
    points = torch.stack(golden.seen[skipped:])
    with torch.no_grad():
        images = torch.stack([golden.f(z) for z in points]).flatten(1).norm(dim=1)
    comparable = 12 if name.startswith("broyden") else 40
    for found, expected in ((gaps, run["abs_trace"]), (gaps / (images + floor), run["rel_trace"])):
        expected = torch.tensor(expected, dtype=torch.float64)
        assert len(found) == len(expected)
        torch.testing.assert_close(found[:comparable], expected[:comparable], rtol=1e-6, atol=1e-13)
    # It returns an argument, of the evaluation whose batch residual is lowest.
    best = points[int(torch.tensor(run["abs_trace"]).argmin())]
    torch.testing.assert_close(best[:, :8], torch.tensor(run["z_head"], dtype=torch.float64), rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", [name for name in GOLDEN["older"] if name.endswith("1e-3") or "_rel" in name])
def test_the_older_rules_are_one_call_away(golden, name):
    run = GOLDEN["older"][name]
    options = run["kwargs"]
    stop = deq.Stop(options["threshold"], options["eps"], relative=options["stop_mode"] == "rel")
    with torch.no_grad():
        found = deq.compat.released_fixed_point(golden.f, golden.z0, solver=of_older(name, run)[0], stop=stop)
    assert found.nfe == run["f_calls"]
    assert len(found.trace) == len(run["abs_trace"])
    assert float(found.residual[0]) == pytest.approx(min(run["rel_trace"]), rel=1e-3, abs=1e-15)
    torch.testing.assert_close(found.value[:, :8], torch.tensor(run["z_head"], dtype=torch.float64), rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", GOLDEN["list_state"])
def test_a_state_of_two_tensors(name):
    run = GOLDEN["list_state"][name]
    x, y = named("solver.xa", 4, 3, 5), named("solver.xb", 4, 7)

    def f(a, b):
        return (
            0.5 * torch.tanh(a + b.mean(1)[:, None, None] + x),
            0.5 * torch.tanh(0.5 * b + a.mean((1, 2))[:, None] + y),
        )

    solver = released({"solver": name, "kwargs": {}})
    steps = 25 + (name == "broyden")
    with torch.no_grad():
        solution = deq.fixed_point(
            f, (torch.zeros_like(x), torch.zeros_like(y)), solver=solver, stop=deq.Stop(steps, None)
        )
    if name == "broyden":
        torch.testing.assert_close(solution.residual, torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-12)
    else:
        expected = torch.tensor(run["rel_lowest"], dtype=torch.float64)
        torch.testing.assert_close(solution.residual, expected, rtol=1e-5, atol=0)
    tolerance = 1e-8 if name == "broyden" else 1e-12
    for leaf, head in zip(solution.value, (run["a"], run["b"]), strict=True):
        assert leaf.flatten()[:6].tolist() == pytest.approx(head, abs=tolerance)
