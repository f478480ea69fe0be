"""The gradient of the equation z = f(z)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from .._solve.failure import OnFailure, check_on_failure, report
from .._solve.iterate import Flat, Solve, iterate
from .._solve.map import Map
from .._solve.stop import Stop
from .._solvers import Anderson, Solver
from .autograd import solve_and_attach, transposed_jacobian

_SOLVER = Anderson()
_STOP = Stop(max_steps=40, tol=1e-6)
_ADVICE = (
    "Their gradient is off by about that much or more: allow Implicit more steps or a looser tol, or use "
    'Implicit(solver=GMRES()); where it is meant, say Implicit(on_failure="ignore"). See docs/debugging.md'
)


@dataclass(frozen=True)
class Implicit:
    """Differentiates the equation z = f(z) itself (Bai et al., NeurIPS 2019, theorem 1).

    The backward pass evaluates f once more at the solution and solves u = Jᵀu + g for the incoming gradient g, so
    memory does not grow with the number of forward steps and the gradient is exact up to both residuals. States
    asked for by `record` are no solutions; they carry the gradient of one evaluation of f at them.

    Any number of solves may be waiting for their backward pass. First order only, and not under `torch.func`:
    `Unrolled` supports both.

    Attributes:
        solver: solves the adjoint equation.
        stop: when that ends; its tolerance is the relative error asked of the gradient.
        on_failure: what the backward pass does when samples end above `stop.tol`; as in `fixed_point`.
    """

    solver: Solver = _SOLVER
    stop: Stop = _STOP
    on_failure: OnFailure = "warn"
    kind: Literal["implicit"] = field(default="implicit", repr=False, kw_only=True)

    def __post_init__(self) -> None:
        check_on_failure(self.on_failure)

    def __call__(self, f: Map, z0: Tensor, solve: Solve) -> tuple[Tensor, list[Tensor], Flat]:
        return solve_and_attach(f, z0, solve, self._pull_back)

    def _pull_back(self, f: Map, z: Tensor, gradient: Tensor) -> Tensor:
        return solve_adjoint(f, z, gradient, gradient, self)


def solve_adjoint(
    f: Map, z: Tensor, gradient: Tensor, start: Tensor, adjoint: Implicit, loop: Callable[..., Flat] = iterate
) -> Tensor:
    """u = Jᵀu + gradient, (B, n), with the Jacobian of f at z.

    Args:
        f, z: the map and the state (B, n).
        gradient, start: the incoming gradient, and where the solve for u starts, (B, n).
        adjoint: solver, tolerance, and what to do when that is missed.
        loop: a function with the arguments and result of `iterate`.
    """
    product = transposed_jacobian(f, z)
    if product is None:
        return gradient
    stop = adjoint.stop.laid_out(f.ravel.sizes, f.ravel.names)
    found = loop(lambda u: product(u) + gradient, start, adjoint.solver, stop)
    who = "samples of a backward pass"
    report(found.residual, found.outcome, found.missed, stop, adjoint.on_failure, who=who, advice=_ADVICE)
    return found.best
