"""`fixed_point`, the entry point."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .._adjoints.base import Adjoint
from .._adjoints.implicit import Implicit
from .._solvers import Anderson, Solver
from .failure import OnFailure, check_on_failure, report
from .iterate import Solve
from .map import Map
from .outcome import checked
from .solution import Solution
from .stop import Stop, StopByPart
from .tree import Ravel, Tree

_ADVICE = (
    "Allow more steps, loosen tol (float32 resolves about 1e-7), take another solver, or make f contract "
    '(spectral_radius, weight_norm_); if it is intended, pass on_failure="ignore". See docs/debugging.md'
)
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
    on_failure: OnFailure = "warn",
) -> Solution:
    """Solves z = f(z), each sample of the batch on its own. A step is one evaluation of f.

    Args:
        f: maps a state to a state of the same structure and shapes. The members of a tuple are separate arguments,
            f(h, c); any other tree of tensors is one argument. What f closes over must not change until the backward
            pass: in a loop over x, write `lambda z, x=x: cell(z, x)`.
        z0: initial state: a tensor or a tree of tensors, whose first dimension is the batch.
        solver: update rule, by default `Anderson()`. `Reversible` is its own solver and takes no other.
        stop: maximum number of steps, tolerance, and the norm of the residual.
        adjoint: how gradients reach the tensors that f closes over. Used only while autograd records: `no_grad` and
            `inference_mode` skip it, `eval()` does not.
        record: steps, counted from 1 and increasing, after which the best state so far goes to `Solution.trajectory`.
        check: another f, evaluated once at the solution, by which `residual` and `outcome` are judged. With a cell
            made by `to_delta`, pass the dense cell.
        on_failure: what to do if samples end above `stop.tol`: "ignore"; "warn" with a `ConvergenceWarning`, once for
            each line of your code that calls; or "raise". Without a tolerance, "warn" is silent and "raise" is for
            samples that are not finite.

    Raises:
        ValueError: f returns another structure, shape or device than it was given, or no floating point, changes its
            argument, draws random numbers at every call, or contains BatchNorm in training mode; z0 is empty, or its
            leaves differ in batch size or device; or `record` does not fit `stop`, `solver` the adjoint, `stop.norm`
            the shape (B, n) → (B,), or `stop.parts` the state.
        TypeError: a leaf of z0 is not a floating-point tensor, or `solver`, `stop` or `adjoint` is not such an object.
        ConvergenceError: `on_failure="raise"`, and a sample missed its tolerance or, without one, is not finite.
    """
    solver = choose_solver(solver, adjoint)
    check_choices(solver, stop, adjoint, on_failure)
    record = checked_record(record, stop)
    ravel = Ravel(z0)
    flat_f, start = Map(f, ravel), ravel.flatten(z0)
    stop = stop.laid_out(ravel.sizes, ravel.names)

    solve = Solve(solver, stop, record)
    if torch.is_grad_enabled():
        value, recorded, found = adjoint(flat_f, start, solve)
    else:
        found = solve(flat_f, start)
        value, recorded = found.best, found.recorded
    residual, parts, outcome, missed = found.residual, found.parts, found.outcome, found.missed
    if check is not None:
        (residual, parts), missed = _checked_residual(check, ravel, value.detach(), stop), None
        outcome = outcome if stop.tol is None else checked(outcome, residual <= stop.tol)
    solution = Solution(
        value=ravel.unflatten(value),
        trajectory=tuple(ravel.unflatten(z) for z in recorded),
        residual=residual,
        steps=found.steps,
        outcome=outcome,
        trace=found.trace,
        nfe=flat_f.evaluations + (check is not None),
        parts=parts,
    )
    report(residual, outcome, missed, stop, on_failure, who="samples", advice=_ADVICE)
    return solution


def choose_solver(solver: Solver | None, adjoint: Any) -> Solver:
    """The solver given, or the adjoint if it is its own solver, or `Anderson()`.

    Raises:
        ValueError: the adjoint is its own solver, and another one is given.
    """
    own = adjoint if hasattr(adjoint, "step") and not isinstance(adjoint, type) else None
    if own is None:
        return _SOLVER if solver is None else solver
    if solver is not None and solver != own:
        raise ValueError(
            f"{own!r} solves by an iteration of its own: leave solver out or pass the same, got {solver!r}"
        )
    return own


def check_choices(solver: Any, stop: Any, adjoint: Any, on_failure: Any) -> None:
    """Raises TypeError or ValueError for arguments that `fixed_point` cannot use."""
    for name, value, method, example in (
        ("solver", solver, "step", "Anderson()"),
        ("stop", stop, "residual", "Stop(max_steps=40)"),
        ("adjoint", adjoint, "__call__", "Implicit()"),
    ):
        if isinstance(value, type) or not hasattr(value, method):
            raise TypeError(f"{name} must be an object such as {example}, got {value!r}")
    check_on_failure(on_failure)


def checked_record(record: Sequence[int], stop: Stop) -> tuple[int, ...]:
    """`record` as a tuple.

    Raises:
        ValueError: it is not increasing, or goes beyond `stop.max_steps`.
    """
    record = tuple(record)
    if any(later <= earlier for earlier, later in zip((0, *record)[:-1], record, strict=True)):
        raise ValueError(f"record must be increasing steps counted from 1, got {record}")
    if record and record[-1] > stop.max_steps:
        raise ValueError(
            f"record asks for step {record[-1]}, but stop allows {stop.max_steps}: "
            "raise max_steps or record less (a layer in eval mode may use its eval_stop)"
        )
    return record


@torch.no_grad()
def _checked_residual(check: Callable[..., Tree], ravel: Ravel, z: Tensor, stop: Stop) -> tuple[Tensor, Tensor | None]:
    """Residual of `check` at z, (B,), and those of the parts, (B, parts), if the stop has parts."""
    f = Map(check, ravel)
    with f.block():
        fz = f(z)
        if not isinstance(stop, StopByPart):
            return stop.residual(z, fz), None
        parts = stop.part_residuals(z, fz)
        return stop.worst(parts), parts
