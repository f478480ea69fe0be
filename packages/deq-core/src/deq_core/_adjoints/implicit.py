"""The implicit gradient, that of the equation z = f(z)."""

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
# An error of the gradient up to this multiple of its tolerance is small against the noise between batches.
_FAR = 10.0
# Few steps: where the forward solve has not converged, the exact adjoint may be arbitrarily large.
_STOP = Stop(max_steps=8, tol=1e-3)
_ADVICE = (
    "Their gradient is off by about that much or more. If their forward residual missed its tolerance too, correct "
    "that first: more forward steps, or an f that contracts. Else allow more, Implicit(stop=Stop(40, 1e-6)), or use "
    'Implicit(solver=GMRES()); where it is meant, say Implicit(on_failure="ignore"). See docs/debugging.md'
)


@dataclass(frozen=True)
class Implicit:
    """The implicit gradient, that of the equation z = f(z) (Bai et al., NeurIPS 2019, theorem 1).

    The backward pass evaluates f once more at the solution and solves the adjoint equation u = Jᵀu + g for the incoming
    gradient g. Memory does not grow with the number of forward steps, and the gradient is exact up to the residuals of
    both solves. Recorded states are not solutions: they get the gradient of one evaluation of f.

    By default u is solved for in at most 8 steps, to a residual of a thousandth. Where the forward solve has not
    converged, I - Jᵀ may be nearly singular: an exact u then says little about the loss and outweighs all other
    samples, while the first steps of a Krylov method (Anderson, GMRES) hardly move along the singular directions. Use
    `Stop(40, 1e-6)` to compare gradients at solutions that have converged.

    Several solves may wait for their backward passes. First order only, and not under `torch.func`: `Unrolled` supports
    both.

    Attributes:
        solver: solver of the adjoint equation.
        stop: when the adjoint solve ends; its tolerance is for the residual of u.
        on_failure: what the backward pass does if samples end above `stop.tol`, as in `fixed_point`; "warn" is for
            those above ten times that tolerance.
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
    """Solves u = Jᵀu + gradient for u, (B, n), with the Jacobian J of f at z.

    Args:
        f: the map.
        z: the state at which f is differentiated, (B, n).
        gradient: the incoming gradient, (B, n).
        start: initial u, (B, n).
        adjoint: solver, stopping criterion, and what to do if samples miss the tolerance.
        loop: function with the arguments and result of `iterate`.
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
