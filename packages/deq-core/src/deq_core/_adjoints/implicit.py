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
# A gradient that misses its tolerance by less is noise beside that of a batch.
_FAR = 10.0
# Few: a state that has not settled may have an adjoint of any length, and this many steps do not find it.
_STOP = Stop(max_steps=8, tol=1e-3)
_ADVICE = (
    "Their gradient is off by about that much or more. If their forward residual missed its tolerance too, see to that "
    "first: more forward steps, or an f that contracts. Else allow more, Implicit(stop=Stop(40, 1e-6)), or use "
    'Implicit(solver=GMRES()); where it is meant, say Implicit(on_failure="ignore"). See docs/debugging.md'
)


@dataclass(frozen=True)
class Implicit:
    """Differentiates the equation z = f(z) itself (Bai et al., NeurIPS 2019, theorem 1).

    The backward pass evaluates f once more at the solution and solves u = Jᵀu + g for the incoming gradient g, so
    memory does not grow with the number of forward steps and the gradient is exact up to both residuals. States
    asked for by `record` are no solutions; they carry the gradient of one evaluation of f at them.

    By default u is solved for in few steps, to a part in a thousand. At a state that has not settled, I - Jᵀ may be
    next to singular: its solution then says little of the loss and outweighs all other samples, while the first
    steps of a Krylov method, Anderson's or GMRES, leave such directions nearly out. `Stop(40, 1e-6)` is for
    gradients that are compared with others, at states that have settled.

    Any number of solves may be waiting for their backward pass. First order only, and not under `torch.func`:
    `Unrolled` supports both.

    Attributes:
        solver: solves the adjoint equation.
        stop: when that ends; its tolerance is the relative error asked of the gradient.
        on_failure: what the backward pass does when samples end above `stop.tol`, as in `fixed_point`; "warn" does so
            for those above ten times that.
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
    product = transposed_jacobian(f, z, waits=adjoint.stop.tol is not None)
    if product is None:
        return gradient
    stop = adjoint.stop.laid_out(f.ravel.sizes, f.ravel.names)
    found = loop(lambda u: product(u) + gradient, start, adjoint.solver, stop)
    who = "samples of a backward pass"
    missed, when = found.missed, adjoint.on_failure
    report(found.residual, found.outcome, missed, stop, when, who=who, advice=_ADVICE, margin=_FAR)
    return found.best
