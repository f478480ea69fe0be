"""The state a release's solver returns, on small maps: one that contracts, one that expands, one that oscillates."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.flow.parity import normal, recorded
from torch import Tensor

import deq_core as deq
from deq_flow.models.compat.numerics import Release, Returned, rule_of

RUNS = [
    (release, name)
    for release in ("v1", "v2", "delta")
    for name in recorded("solvers")[release]  # problem/solver/stop_mode
]
SOLVERS: dict[str, deq.Solver] = {
    "anderson": deq.Anderson(window=6, ridge=1e-4, relative_ridge=False),
    "broyden": deq.Broyden(),
    "naive_solver": deq.FixedPointIteration(),
    "km_solver": deq.FixedPointIteration(damping=0.1),
}
UNMEASURED = {"anderson": 2, "broyden": 1}
"""Evaluations that a release makes before it measures."""
COMPARABLE = 0.01
"""Where single and double precision differ by more, the map has amplified rounding beyond any comparison."""


def problem(name: str, dtype: torch.dtype) -> tuple[Callable[[Tensor], Tensor], Tensor]:
    """A map of (3, 12) states and where to start."""
    weight, bias, start = (normal(f"flow/toy/{part}", shape).to(dtype) for part, shape in SHAPES.items())
    weight = weight / math.sqrt(12)

    def mixed(z: Tensor) -> Tensor:
        return torch.einsum("bij,bj->bi", weight, z)

    maps: dict[str, Callable[[Tensor], Tensor]] = {
        "contract": lambda z: torch.tanh(0.7 * mixed(z) + bias),
        "expand": lambda z: 1.15 * z + 0.3 * mixed(z) + bias,
        "wobble": lambda z: 3 * torch.sin(1.6 * mixed(z)) + bias,
    }
    return maps[name], start


SHAPES = {"W": (3, 12, 12), "b": (3, 12), "x0": (3, 12)}


def solve(
    release: Release, run: str, steps: int, dtype: torch.dtype = torch.float32, tol: float | None = None
) -> deq.Solution:
    of, solver, mode = run.split("/")
    f, start = problem(of, dtype)
    relative, record = mode == "rel", tuple(at for at in (4, 8, 12) if at <= steps)
    stop = deq.Stop(steps, tol=tol, relative=relative)
    options = {"solver": SOLVERS[solver], "stop": stop, "adjoint": Returned(release), "record": record}
    return deq.fixed_point(f, start, on_failure="ignore", **options)


def agrees(ours: Tensor, in_double: Tensor, theirs: Any) -> bool | None:
    """Whether a state is the recorded one, to ten times the rounding in it; None where that is too much."""
    noise = float((ours.double() - in_double).abs().max())
    if noise > COMPARABLE:
        return None
    expected = torch.tensor(theirs).flatten()
    return bool((ours.flatten() - expected).abs().max() <= 10 * noise + 2e-5 * expected.abs().max())


@pytest.mark.parametrize(("release", "run"), RUNS)
def test_the_release_returns_this_state(release: Release, run: str) -> None:
    reference = recorded("solvers")[release][run]
    solution, in_double = (solve(release, run, reference["nfe"], dtype) for dtype in (torch.float32, torch.float64))
    verdict = agrees(solution.value, in_double.value, reference["x"])
    assert verdict or (verdict is None and "contract" not in run)
    if verdict:
        untraced = 1 if "broyden" in run or (release == "v1" and "anderson" in run) else 0  # not in the release's count
        steps = torch.as_tensor(reference["nstep"]).expand(3) + untraced
        assert solution.steps.tolist() == steps.tolist()


@pytest.mark.parametrize(("release", "run"), RUNS)
def test_the_release_records_these_states(release: Release, run: str) -> None:
    reference = recorded("solvers")[release][run]["indexing"]  # fewer than three where the run ended early
    single, double = (solve(release, run, 13, dtype).trajectory for dtype in (torch.float32, torch.float64))
    verdicts = [
        agrees(ours, in_double, theirs) for ours, in_double, theirs in zip(single, double, reference, strict=False)
    ]
    assert verdicts[0]
    assert False not in verdicts
    assert len(verdicts) >= 2


@pytest.mark.parametrize(("release", "run"), [run for run in RUNS if "contract" in run[1]])
def test_the_release_ends_after_as_many_evaluations(release: Release, run: str) -> None:
    reference = recorded("solvers")[release][run]
    solution = solve(release, run, 13 if "broyden" in run else 12, tol=1e-3)
    assert solution.nfe == len(solution.trace) == reference["nfe"]
    torch.testing.assert_close(solution.value.flatten(), torch.tensor(reference["x"]), rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(("release", "run"), [run for run in RUNS if "contract" in run[1]])
def test_residuals_are_the_releases(release: Release, run: str) -> None:
    """Of every sample; in version 1 of the batch, the same for all; of the damped map where the release has one."""
    reference = recorded("solvers")[release][run]
    _, solver, mode = run.split("/")
    trace = solve(release, run, reference["nfe"]).trace[UNMEASURED.get(solver, 0) :]
    theirs = torch.tensor(reference[f"{mode}_trace"])
    # The other releases' begin with a placeholder, version 1's is filled up with its lowest.
    theirs = theirs[: len(trace), None].expand_as(trace) if release == "v1" else theirs[1 : len(trace) + 1]
    torch.testing.assert_close(trace, theirs, rtol=1e-3, atol=1e-6)


def test_a_solver_that_a_release_did_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match=r"release 'v1' has no solver fixed_point_iteration; it has anderson, broyden"):
        rule_of("v1", deq.FixedPointIteration())


def test_a_stop_by_parts_which_no_release_had_is_refused() -> None:
    with pytest.raises(ValueError, match="a release judges a state as a whole"):
        deq.fixed_point(torch.cos, torch.zeros(1, 1), stop=deq.Stop(parts=(deq.Part(1e-3),)), adjoint=Returned("v2"))
