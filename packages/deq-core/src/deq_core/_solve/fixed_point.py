"""The entry point: f and a guess in, a solution out."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .._adjoints.adjoint import Adjoint, Implicit
from .._solvers import Anderson, Solver
from .failure import OnFailure, announce, check_on_failure, failed, goal
from .iterate import Solve
from .map import Map
from .solution import Solution
from .stop import Stop
from .tree import Ravel, Tree

_SOLVER = Anderson()
_STOP = Stop()
_ADJOINT = Implicit()


def fixed_point(
    f: Callable[..., Tree],
    z0: Tree,
    *,
    solver: Solver | None = None,
    stop: Stop = _STOP,
    adjoint: Adjoint = _ADJOINT,
    record: Sequence[int] = (),
    check: Callable[..., Tree] | None = None,
    on_failure: OnFailure = "ignore",
) -> Solution:
    """Solves z = f(z), sample by sample.

    Args:
        f: maps a state to a state of the same structure and shapes; may close over anything. A tuple's members are
            separate arguments, f(h, c); any other tree of tensors is one.
        z0: where to start: a tensor or a tree of tensors whose first dimension is the batch.
        solver: how the next state is chosen; `Anderson()` if none is given. `Reversible` is a solver too, and takes
            no other.
        stop: when to end, and what residual means.
        adjoint: how gradients reach what f closes over. Used only while autograd records; `no_grad` and
            `inference_mode` skip it, `eval()` does not.
        record: evaluations, counted from 1 and increasing, after which the best state so far goes to
            `Solution.trajectory`.
        check: another f by which `residual` and `converged` are judged, evaluated once at the solution: the dense cell
            where f is an approximation of it (`to_delta`).
        on_failure: what to do when samples end above `stop.tol` (or, without a tolerance, non-finite).

    Raises:
        ValueError: f returns another structure, shape or device than it was given, changes its argument, draws
            random numbers at every evaluation, or has BatchNorm in training mode in it; `record` does not fit `stop`,
            or `solver` the adjoint.
        ConvergenceError: `on_failure="raise"` and a sample failed.
    """
    solver = choose_solver(solver, adjoint)
    check_choices(solver, stop, adjoint, on_failure)
    record = checked_record(record, stop)
    ravel = Ravel(z0)
    flat_f, start = Map(f, ravel), ravel.flatten(z0)

    solve = Solve(solver, stop, record)
    if torch.is_grad_enabled():
        value, recorded, found = adjoint(flat_f, start, solve)
    else:
        found = solve(flat_f, start)
        value, recorded = found.best, found.recorded
    residual, converged, checks = found.residual, found.converged, 0
    if check is not None:
        residual = _checked_residual(check, ravel, value.detach(), stop)
        converged = residual <= stop.tol if stop.tol is not None else torch.zeros_like(converged)
        checks = 1
    solution = Solution(
        value=ravel.unflatten(value),
        trajectory=tuple(ravel.unflatten(z) for z in recorded),
        residual=residual,
        steps=found.steps,
        converged=converged,
        trace=found.trace,
        nfe=flat_f.evaluations + checks,
    )
    if on_failure != "ignore":
        _report(solution, stop, on_failure)
    return solution


def choose_solver(solver: Solver | None, adjoint: Any) -> Solver:
    """The solver given, or the one that goes with the adjoint.

    Raises:
        ValueError: the adjoint solves by itself, and not like this.
    """
    own = adjoint if hasattr(adjoint, "step") and not isinstance(adjoint, type) else None
    if own is None:
        return _SOLVER if solver is None else solver
    if solver is not None and solver != own:
        raise ValueError(f"{own!r} takes back a solve of its own: leave solver out or pass the same, got {solver!r}")
    return own


def check_choices(solver: Any, stop: Any, adjoint: Any, on_failure: Any) -> None:
    """Raises TypeError or ValueError for anything `fixed_point` cannot use."""
    for name, value, method, example in (
        ("solver", solver, "step", "Anderson()"),
        ("stop", stop, "residual", "Stop(max_steps=40)"),
        ("adjoint", adjoint, "__call__", "Implicit()"),
    ):
        if isinstance(value, type) or not hasattr(value, method):
            raise TypeError(f"{name} must be an object such as {example}, got {value!r}")
    check_on_failure(on_failure)


def checked_record(record: Sequence[int], stop: Stop) -> tuple[int, ...]:
    """`record`, or ValueError where it is not increasing or beyond `stop`."""
    record = tuple(record)
    if any(later <= earlier for earlier, later in zip((0, *record)[:-1], record, strict=True)):
        raise ValueError(f"record must be increasing evaluations counted from 1, got {record}")
    if record and record[-1] > stop.max_steps:
        raise ValueError(
            f"record asks for evaluation {record[-1]}, but stop allows {stop.max_steps}: "
            "raise max_steps or record less (a layer in eval mode may use its eval_stop)"
        )
    return record


@torch.no_grad()
def _checked_residual(check: Callable[..., Tree], ravel: Ravel, z: Tensor, stop: Stop) -> Tensor:
    f = Map(check, ravel)
    with f.block():
        return stop.residual(z, f(z))


def _report(solution: Solution, stop: Stop, on_failure: OnFailure) -> None:
    above = failed(solution.residual, solution.converged, stop)
    if not bool(above.any()):
        return
    message = (
        f"{int(above.sum())} of {len(above)} samples did not reach {goal(stop)} in {stop.max_steps} evaluations "
        f"({solution.describe()}). f may not contract near its fixed point (see spectral_radius and weight_norm_), "
        "or max_steps may be too small, or tol below what the dtype resolves"
    )
    announce(message, on_failure)
