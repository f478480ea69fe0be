"""Schedules of the number of evaluations, and the convergence monitor."""

import math
from dataclasses import replace

import pytest
import torch
from tests.problems import PROBLEMS

import deq_core as deq


def test_random_steps_repeat_with_their_seed_and_fill_their_range():
    schedule = deq.nn.RandomSteps(deq.Stop(tol=None, norm=deq.rms_norm), low=5, high=9)
    draws = [schedule(step) for step in range(300)]
    assert draws == [schedule(step) for step in range(300)]
    counts = [[stop.max_steps for stop in draws].count(n) for n in range(5, 10)]
    assert sum(counts) == 300
    assert min(counts) > 35
    assert all(replace(stop, max_steps=5) == deq.Stop(5, None, norm=deq.rms_norm) for stop in draws)
    other = replace(schedule, seed=1)
    assert [other(step) for step in range(20)] != draws[:20]


def test_successive_draws_are_unrelated():
    schedule = deq.nn.RandomSteps(deq.Stop(), low=1, high=1000)
    draws = torch.tensor([float(schedule(step).max_steps) for step in range(400)])
    correlation = torch.corrcoef(torch.stack([draws[1:], draws[:-1]]))[0, 1]
    assert abs(correlation) < 0.15


def test_segments_grow_to_their_ranges_and_the_last_is_sometimes_long():
    segments = deq.nn.RandomSegments(low=2, high=(6, 9), high_at_start=(2, 3), ramp=0.5, long=(10, 23), long_share=0.25)
    generator = torch.Generator().manual_seed(0)
    for progress, most in ((0.0, (2, 3)), (0.25, (4, 6)), (0.49, (6, 9))):
        draws = [segments(progress, generator) for _ in range(300)]
        assert [(min(steps), max(steps)) for steps in zip(*draws, strict=True)] == [(2, high) for high in most]
    draws = [segments(1.0, generator) for _ in range(1000)]
    first, last = zip(*draws, strict=True)
    assert set(first) == set(range(2, 7))
    assert set(last) == set(range(2, 10)) | set(range(10, 24))
    assert sum(steps >= 10 for steps in last) == pytest.approx(250, abs=50)


def test_segments_repeat_with_their_generator_whatever_came_before():
    segments = deq.nn.RandomSegments(long_share=0.5)

    def draws(progress):
        generator = torch.Generator().manual_seed(3)
        return [segments(progress, generator) for _ in range(9)], torch.rand((), generator=generator)

    assert draws(1.0) == draws(1.0)
    assert draws(0.0)[1] == draws(1.0)[1]


def test_warm_up_unrolls_and_then_leaves_the_layer_alone():
    problem = PROBLEMS["linear"]()
    layer, warm_up = deq.nn.DEQ(), deq.nn.UnrolledWarmUp(steps=2, depth=3)
    evaluations = []
    for step in range(4):
        stop, adjoint = warm_up(step)
        solution = layer(problem.f, problem.z0, stop=stop, adjoint=adjoint)
        (gradient,) = torch.autograd.grad(solution.value.sum(), problem.parameters[0])
        assert gradient.abs().sum() > 0
        evaluations.append(len(solution.trace))
    assert evaluations[:2] == [3, 3]
    assert evaluations[2] == evaluations[3] > 3
    assert layer.stop == deq.Stop()


def test_the_monitor_logs_every_so_many_steps_and_passes_the_solution_on():
    logged = []
    monitor = deq.nn.Monitor(lambda values, step: logged.append((values, step)), every=3, prefix="train/")
    problem = PROBLEMS["tanh"]()
    solution = deq.fixed_point(problem.f, problem.z0)
    for step in range(7):
        solution = deq.fixed_point(problem.f, problem.z0)
        assert monitor(solution, step) is solution
    assert [step for _, step in logged] == [0, 3, 6]
    values = logged[0][0]
    assert values["train/converged"] == values["train/finite"] == 1.0
    assert values["train/steps"] == solution.steps.double().mean()
    assert values["train/residual_worst"] == solution.residual.max()
    assert values["train/residual_first"] > values["train/residual_worst"] >= values["train/residual"]
    assert values["train/evaluations"] == solution.nfe


def test_the_summary_of_a_failed_solve_is_loud():
    values = deq.nn.summarize(deq.fixed_point(lambda z: z * torch.nan, torch.zeros(2, 3), on_failure="ignore"))
    assert values["converged"] == values["finite"] == 0.0
    assert math.isinf(values["residual"])
    factors = torch.tensor([[0.1], [0.3], [0.5], [torch.nan]])
    one = deq.fixed_point(lambda z: z * factors, torch.ones(4, 1), on_failure="ignore", stop=deq.Stop(1, tol=None))
    values = deq.nn.summarize(one)
    assert values["residual"] == values["residual_first"] == one.residual[:2].mean(), "9 and 7/3 of 1 to inf"
    assert math.isinf(values["residual_worst"])
    assert values["finite"] == 0.75
    assert deq.nn.summarize(deq.fixed_point(torch.cos, torch.zeros(0, 3))) == {}


@pytest.mark.parametrize(
    "build",
    [
        lambda: deq.nn.RandomSteps(deq.Stop(), low=0, high=3),
        lambda: deq.nn.RandomSteps(deq.Stop(), low=4, high=3),
        lambda: deq.nn.RandomSegments(low=3),
        lambda: deq.nn.RandomSegments(high=(4,)),
        lambda: deq.nn.RandomSegments(long=(0, 3)),
        lambda: deq.nn.RandomSegments(long_share=1.5),
        lambda: deq.nn.UnrolledWarmUp(steps=-1, depth=3),
        lambda: deq.nn.UnrolledWarmUp(steps=1, depth=0),
        lambda: deq.nn.Monitor(print, every=0),
    ],
)
def test_impossible_settings_fail_at_construction(build):
    with pytest.raises(ValueError, match=r"must be at least|at least low"):
        build()
