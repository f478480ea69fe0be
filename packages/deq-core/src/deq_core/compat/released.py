"""Solves by the rules of the code released with MDEQ and DEQ-Transformer, to compare numbers with it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .._adjoints.autograd import with_history
from .._adjoints.base import Adjoint
from .._adjoints.implicit import Implicit, solve_adjoint
from .._adjoints.unrolled import Unrolled
from .._solve.fixed_point import check_choices, checked_record
from .._solve.iterate import Flat, Solve
from .._solve.map import Map
from .._solve.modes import may_look
from .._solve.norms import of_rows
from .._solve.outcome import Outcome, stopped_early
from .._solve.solution import Solution
from .._solve.stop import Stop
from .._solve.tree import Ravel, Tree
from .._solve.unaliased import Unaliased
from .._solvers import Anderson, Broyden, FixedPointIteration, Solver
from .._solvers.scaled import scaled_to


@dataclass(frozen=True)
class ReleasedSolution(Solution):
    """A `Solution` by the released rules: each sample has the `residual`, `outcome` and `trace` of the whole batch.

    The release adds a constant to |f(z)|, so that the relative residual of a small state is always small. `converged`
    requires the tolerance without that constant too.

    Attributes:
        argument: the state z* that was found, at which to evaluate a Jacobian penalty. Without autograd `value` is z*
            too. While autograd records, it is f(z*) with `Implicit`, and with `Unrolled` unless the solver is plain
            iteration; other adjoints make of z* what they make of a solution in `fixed_point`.
    """

    argument: Tree


@dataclass(frozen=True)
class _Rules:
    """The rules of one released solver.

    Attributes:
        first: first evaluation of f, counted from 1, whose argument may be returned.
        beyond: number of evaluations of f beyond `max_steps`.
        floor: constant that is added to |f(z)| in a relative residual.
    """

    first: int
    beyond: int
    floor: float


_RULES = {Broyden: _Rules(2, 1, 1e-9), Anderson: _Rules(3, 0, 1e-5), FixedPointIteration: _Rules(1, 0, 1e-9)}

_SOLVER = Broyden()
_STOP = Stop(max_steps=30, tol=1e-3)
_ADJOINT = Implicit(solver=Broyden(), stop=Stop(max_steps=40, tol=1e-3), on_failure="ignore")


def released_fixed_point(
    f: Callable[..., Tree],
    z0: Tree,
    *,
    solver: Solver = _SOLVER,
    stop: Stop = _STOP,
    adjoint: Adjoint = _ADJOINT,
    record: Sequence[int] = (),
) -> ReleasedSolution:
    """Solves z = f(z) as the code released with MDEQ (Bai et al., NeurIPS 2020) does; arguments as in `fixed_point`.

    The code is locuslab/deq. Use this to reproduce published numbers, and for checkpoints that were trained in this
    way; `fixed_point` makes better use of evaluations. The rules:

    - The residual is one number for the whole batch, and the solve ends when it is below the tolerance. So the result
      of a sample depends on the others in its batch.
    - The result is the state z with the lowest residual, not f(z), and never z0. So `Broyden` with `max_steps` K takes
      K steps and K + 1 evaluations; `Anderson` takes K evaluations in all, at least 3. `FixedPointIteration` returns
      the result of its last application of f, whatever the residuals of the earlier ones.
    - `Broyden` also ends if it stalls close to the tolerance, or if the residual has grown a thousandfold (a
      millionfold if absolute). The release multiplies these factors by the length of sequences; here they are those for
      images.
    - While autograd records, the value with `Implicit` and `Unrolled` is f(z*), by one more evaluation. `Implicit`
      takes the Jacobian at z*, and solves the adjoint equation from zero by these rules too. `Unrolled` differentiates
      the solver and that evaluation; with plain iteration its value is z*, and it differentiates the applications of f
      alone, as in the release's pretraining. Other adjoints do at z* what they do in `fixed_point`.

    Raises:
        ValueError: as in `fixed_point`; or a solver that the release does not have, Anderson with less than 3 steps, or
            a stop with parts.
        TypeError: as in `fixed_point`.
    """
    check_choices(solver, stop, adjoint, "ignore")
    record = checked_record(record, stop)
    ravel = Ravel(z0)
    flat_f, start = Map(f, ravel), ravel.flatten(z0)

    solve = Solve(solver, stop, record, iterate_as_released)
    if not torch.is_grad_enabled():
        found = solve(flat_f, start)
        value, recorded = found.best, found.recorded
    elif isinstance(adjoint, Implicit):
        value, recorded, found = _implicit(flat_f, start, solve, adjoint)
    else:
        value, recorded, found = adjoint(flat_f, start, solve)
        if isinstance(adjoint, Unrolled) and not isinstance(solver, FixedPointIteration):
            with flat_f.block():
                value, recorded = flat_f(value), [flat_f(z) for z in recorded]
    return ReleasedSolution(
        value=ravel.unflatten(value),
        trajectory=tuple(ravel.unflatten(z) for z in recorded),
        residual=found.residual,
        steps=found.steps,
        outcome=found.outcome,
        trace=found.trace,
        nfe=flat_f.evaluations,
        argument=ravel.unflatten(found.best),
        keeps="last" if isinstance(solver, FixedPointIteration) else "best",
    )


def iterate_as_released(
    f: Callable[[Tensor], Tensor], z: Tensor, solver: Solver, stop: Stop, record: Sequence[int] = ()
) -> Flat:
    """The loop, with the signature of `iterate`: `Flat.best` is the state found, `Flat.steps` its step."""
    rules = _rules(solver, stop, record)
    f = Unaliased(f)
    evaluations = stop.max_steps + rules.beyond
    memory: Any = solver.init(z, evaluations)
    fz = best = z
    scaled = solver
    lowest = true = bare = math.inf
    evaluation = 0
    steps = 0
    trace: list[float] = []
    recorded: list[Tensor] = []
    for evaluation in range(1, evaluations + 1):
        fz = f(z)
        if evaluation == 1:
            scaled = scaled_to(z, fz, solver, look=may_look(z))
        if evaluation >= rules.first:
            residual, bare = _residuals(z, fz, stop, rules.floor)
            trace.append(residual)
        if isinstance(solver, FixedPointIteration):
            z, memory = solver.step(z, fz, memory)
            best, lowest, steps, true = z, trace[-1], evaluation, bare
        elif trace and trace[-1] < lowest:
            best, lowest, steps, true = z, trace[-1], evaluation - 1, bare
        if evaluation - rules.beyond in record:
            recorded.append(best)
        if evaluation == evaluations or (trace and _ends(trace, solver, stop)):
            break
        if not isinstance(solver, FixedPointIteration):
            z, memory = scaled.step(z, fz, memory)
    recorded += [best] * (len(record) - len(recorded))
    batch = len(z)
    converged = torch.full((batch,), max(lowest, true) < (stop.tol or 0.0), device=z.device)
    outcome = Outcome.of(converged, torch.full_like(converged, math.isfinite(trace[-1])))
    return Flat(
        best=best,
        recorded=recorded,
        residual=z.new_full((batch,), lowest),
        steps=torch.full((batch,), steps, device=z.device),
        outcome=outcome if evaluation == evaluations else stopped_early(outcome),
        trace=z.new_tensor(trace)[:, None].expand(-1, batch),
        missed=None,
        last=(z, fz, memory),
    )


def _implicit(f: Map, z0: Tensor, solve: Solve, adjoint: Implicit) -> tuple[Tensor, list[Tensor], Flat]:
    with torch.no_grad():
        found = solve(f, z0.detach())

    def pullback(f: Map, value: Tensor, gradient: Tensor) -> Tensor:
        return solve_adjoint(f, found.best, gradient, torch.zeros_like(gradient), adjoint, loop=iterate_as_released)

    with f.block():
        fz = f(found.best)
        return with_history(fz, fz.detach(), f, pullback), [f(z) for z in found.recorded], found


def _rules(solver: Solver, stop: Stop, record: Sequence[int]) -> _Rules:
    if stop.parts:
        raise ValueError(
            f"the released rules judge a state as a whole: leave the parts out of the stop, got {stop.parts}"
        )
    rules = _RULES.get(type(solver))
    if rules is None:
        known = ", ".join(kind.__name__ for kind in _RULES)
        raise ValueError(f"the released rules are those of {known}, got {solver!r}: solve with fixed_point instead")
    least = rules.first - rules.beyond
    if min(stop.max_steps, *record, stop.max_steps) < least:
        raise ValueError(
            f"the released {type(solver).__name__} returns nothing before step {least}, got "
            f"max_steps={stop.max_steps} and record={tuple(record)}"
        )
    return rules


@torch.no_grad()
def _residuals(z: Tensor, fz: Tensor, stop: Stop, floor: float) -> tuple[float, float]:
    """The residual of the batch as one sample, and the same without the constant."""
    own = of_rows(stop.norm, (fz - z).flatten()[None], look=may_look(z))
    if not stop.relative:
        return (residual := float(own.bounded())), residual
    of_fz = of_rows(stop.norm, fz.flatten()[None], look=may_look(z))
    bare, length = float(own.over(of_fz)), of_fz.value()
    # Beside a norm that overflows the constant does not count.
    return float(own.bounded() / (length + floor)) if length.isfinite() else bare, bare


def _ends(trace: list[float], solver: Solver, stop: Stop) -> bool:
    tol, residual = stop.tol or 0.0, trace[-1]
    if residual < tol or not math.isfinite(residual):
        return True
    if not isinstance(solver, Broyden):
        return False
    recent = trace[-30:]
    stalls = len(trace) > 30 and residual < 3 * tol and max(recent) < 1.3 * min(recent)
    return stalls or residual > trace[0] * (1e3 if stop.relative else 1e6)
