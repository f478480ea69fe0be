"""Rules by which the released solvers select the state that they return.

deq_core returns, for each sample, the image f(z) with the lowest residual. The releases differ, and so do the numbers
obtained with them:

- version 1 returns arguments z, and has one residual for the whole batch, so that samples are not independent;
- version 2's `naive_solver` has the flag `return_final`, by default True, which it adds to the bound as 1
  (`diff < lowest + return_final`). So it takes not every image, but those whose residual is less than 1 above that of
  the last one taken: with relative residuals, practically every one. Its Broyden returns an argument;
- DeltaDEQ's damped iteration returns the last state, the result of the damped step, and its residual is the length of
  that step. Its other solvers are those of version 2.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

import deq_core as deq

Release = Literal["v1", "v2", "delta"]


@dataclass(frozen=True)
class Rule:
    """The rule of one released solver.

    Attributes:
        state: "image" f(z), "argument" z, or "step", the damped mean of both from which the iteration continues
        first: first evaluation whose state may be taken. The released Anderson makes two evaluations, Broyden one,
            before it computes a residual
        slack: a state is taken if its residual is below that of the last one taken plus this
        batch: reduces the residuals of a batch to one; None keeps one for each sample
    """

    state: Literal["image", "argument", "step"]
    first: int
    slack: float = 0.0
    batch: Callable[[Tensor], Tensor] | None = None


RULES: dict[tuple[Release, str], Rule] = {
    ("v1", "anderson"): Rule("argument", first=3, batch=torch.mean),
    ("v1", "broyden"): Rule("argument", first=2, batch=torch.linalg.vector_norm),
    ("v2", "fixed_point_iteration"): Rule("image", first=1, slack=1.0),
    ("v2", "anderson"): Rule("image", first=3),
    ("v2", "broyden"): Rule("argument", first=2),
    ("delta", "fixed_point_iteration"): Rule("step", first=1, slack=torch.inf),
    ("delta", "anderson"): Rule("image", first=3),
    ("delta", "broyden"): Rule("argument", first=2),
}


def rule_of(release: Release, solver: deq.Solver) -> Rule:
    """The rule of `release` for `solver`. Raises ValueError for a solver that the release does not have."""
    kind = getattr(solver, "kind", type(solver).__name__)
    if (release, kind) not in RULES:
        known = ", ".join(of for version, of in RULES if version == release)
        raise ValueError(f"release {release!r} has no solver {kind}; it has {known}")
    return RULES[release, kind]


@dataclass(frozen=True)
class Returned:
    """An adjoint that solves by the rules of a release, and passes the state that it returns to another adjoint.

    The solve ends when the slowest sample, or in version 1 the batch, is within the tolerance; until then all samples
    are updated. The further stopping rules of Broyden (a stall, growth a millionfold) are left out.

    Attributes:
        release: release whose rules select the returned and recorded states
        adjoint: adjoint that attaches gradients; None, for evaluation, returns the states without gradients
    """

    release: Release
    adjoint: deq.Adjoint | None = None

    def __call__(self, f: Any, z0: Tensor, solve: Any) -> tuple[Tensor, list[Tensor], Any]:
        start, stop = z0.detach(), solve.stop
        if stop.parts:
            raise ValueError(f"a release judges a state as a whole: leave the parts out of the stop, got {stop.parts}")
        visits = _Visits(f, start, rule_of(self.release, solve.solver), solve)
        with torch.no_grad():
            found = replace(solve, stop=replace(stop, tol=None))(visits, start)
        converged = visits.lowest < (0.0 if stop.tol is None else stop.tol)
        found = replace(
            found,
            best=visits.state,
            recorded=visits.recorded + [visits.state] * (len(solve.record) - len(visits.recorded)),
            residual=visits.lowest,
            steps=visits.steps,
            outcome=deq.Outcome.of(converged, visits.trace[-1] < torch.inf),
            trace=torch.stack(visits.trace),
        )
        if self.adjoint is None:
            return found.best, found.recorded, found
        return self.adjoint(f, z0, replace(solve, loop=lambda *_: found))


@dataclass(frozen=True)
class ReleasedImplicit:
    """The releases' implicit gradient (`ift`): the value is f(z), with z the state that the solver returned.

    For the gradient g of that value, u = J^T u + g is solved from zero by the rules of the release, with the Jacobian
    at z. `deq_core.Implicit` returns z itself and starts from g. A tolerance far above the norm of g, such as the
    releases' default of 1e-3, ends the solve at once: then u = g, the gradient of one step.

    Attributes:
        solver, stop: solver and stop of the backward solve
        release: release whose rules it follows
        safe: whether the Jacobian is that at f(z), as with `safe_ift`
    """

    solver: deq.Solver
    stop: deq.Stop
    release: Release
    safe: bool = False
    kind: Literal["released_implicit"] = field(default="released_implicit", repr=False, kw_only=True)

    def __call__(self, f: Any, z0: Tensor, solve: Any) -> tuple[Tensor, list[Tensor], Any]:
        with torch.no_grad():
            found = solve(f, z0.detach())
        with f.block():
            value, recorded = f(found.best), [f(z) for z in found.recorded]
        if value.requires_grad:
            value.register_hook(partial(self._solve, f, value.detach() if self.safe else found.best))
        return value, recorded, found

    def _solve(self, f: Any, z: Tensor, gradient: Tensor) -> Tensor:
        with f.block(), torch.enable_grad():
            z = z.detach().requires_grad_()
            image = f(z)

        def step(u: Tensor) -> Tensor:
            return torch.autograd.grad(image, z, u, retain_graph=True, materialize_grads=True)[0] + gradient

        with torch.enable_grad(), f.without_autocast():  # adjoints are called only while autograd records
            return deq.fixed_point(
                step,
                torch.zeros_like(gradient),
                solver=self.solver,
                stop=self.stop,
                adjoint=Returned(self.release),
                on_failure="ignore",
            ).value


class _Visits:
    """The map of a solve; at each evaluation it updates the state to return."""

    def __init__(self, f: Any, start: Tensor, rule: Rule, solve: Any) -> None:
        self._f, self._rule = f, rule
        self._stop, self._record = solve.stop, solve.record
        self._damping: float = getattr(solve.solver, "damping", 0.0)
        self._ended = False
        self.evaluations = 0
        self.state = start
        self.lowest = start.new_full((len(start),), torch.inf)
        self.steps = torch.zeros(len(start), dtype=torch.long, device=start.device)
        self.recorded: list[Tensor] = []
        self.trace: list[Tensor] = []

    def block(self) -> AbstractContextManager[Any]:
        return self._f.block()

    def __call__(self, z: Tensor) -> Tensor:
        if self._ended:
            return z
        fz = self._f(z)
        self.evaluations += 1
        candidate = self._candidate(z, fz)
        # The release damps the map itself, so its residual is that of the damped map.
        residual = self._residual(z, candidate if self._rule.state == "step" else fz)
        self.trace.append(residual)
        if self.evaluations >= self._rule.first:
            taken = residual < self.lowest + self._rule.slack
            self.state = torch.where(taken[:, None], candidate, self.state)
            self.lowest = torch.where(taken, residual, self.lowest)
            self.steps = torch.where(taken, self.evaluations, self.steps)
            self._ended = self._stop.tol is not None and bool(residual.max() < self._stop.tol)
        if self.evaluations in self._record:
            self.recorded.append(self.state)
        return fz

    def _candidate(self, z: Tensor, fz: Tensor) -> Tensor:
        match self._rule.state:
            case "argument":
                return z
            case "step" if self._damping:
                return torch.lerp(fz, z, self._damping)
            case _:
                return fz

    def _residual(self, z: Tensor, fz: Tensor) -> Tensor:
        stop = deq.Stop(tol=None, relative=self._stop.relative)
        match self._rule.batch:
            case None:
                return stop.residual(z, fz)
            case torch.mean:
                return stop.residual(z, fz).mean().expand(len(z))
            case _:
                gap, size = (deq.two_norm(deq.two_norm(x)[None]) for x in (fz - z, fz))
                return (gap / size if self._stop.relative else gap).expand(len(z))
