"""How gradients reach what f closes over."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from .._solve.failure import OnFailure, announce, check_on_failure, failed, goal
from .._solve.iterate import Flat, Solve, iterate
from .._solve.map import Map
from .._solve.stop import Stop
from .._solvers import Anderson, Solver
from .._solvers.base import check_damping
from .autograd import Pullback, attach, one_step, refuse_forward_mode, transposed_jacobian

_BACKWARD_SOLVER = Anderson()
_BACKWARD_STOP = Stop(max_steps=40, tol=1e-6)


@runtime_checkable
class Adjoint(Protocol):
    """How gradients reach what f closes over; called only while autograd records.

    An adjoint that is a `Solver` too solves by itself: `fixed_point` takes no other solver beside it.
    """

    def __call__(self, f: Map, z0: Tensor, solve: Solve) -> tuple[Tensor, list[Tensor], Flat]:
        """The solution and the recorded states, both with gradients, and what `solve(f, z0)` found.

        Args:
            f: the map on (B, n) states; enter `f.block()` round evaluations of one autograd mode.
            z0: (B, n) where the solve starts.
            solve: runs the loop, and knows the choices made for it.
        """
        ...


@dataclass(frozen=True)
class Unrolled:
    """Differentiates the solver's own operations: the exact gradient of what was computed, also with respect to z0.

    Memory grows with the number of evaluations, and behind an accelerated solver by its history too, once each: 40
    evaluations hold 40 states with plain iteration and 550 with `Anderson()`. Supports double backward and
    `torch.func`.
    """

    kind: Literal["unrolled"] = field(default="unrolled", repr=False, kw_only=True)

    def __call__(self, f: Map, z0: Tensor, solve: Solve) -> tuple[Tensor, list[Tensor], Flat]:
        flat = solve(f, z0)
        return flat.best, flat.recorded, flat


@dataclass(frozen=True)
class Phantom:
    """Differentiates a few more damped steps taken from the solution (Geng et al., NeurIPS 2021).

    The gradient is inexact: a truncated, damped Neumann series of the implicit one, an ascent direction where f
    contracts. The value is moved by the steps too. One step without damping is the Jacobian-free gradient of
    Fung et al., AAAI 2022.

    Attributes:
        steps: evaluations of f that are differentiated; memory grows with them.
        damping: share of the old state that is kept in each, in [0, 1). The released code's tau is 1 - damping.
        record: steps before the last, counted from 1, whose states go to `Solution.trajectory` too, each after the
            states it follows from.
    """

    steps: int = 1
    damping: float = 0.0
    record: tuple[int, ...] = ()
    kind: Literal["phantom"] = field(default="phantom", repr=False, kw_only=True)

    def __post_init__(self) -> None:
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 1:
            raise ValueError(f"steps must be a whole number of evaluations, at least 1, got {self.steps!r}")
        check_damping(self.damping)
        ordered = (0, *self.record, self.steps)
        if any(later <= earlier for earlier, later in pairwise(ordered)):
            raise ValueError(f"record must be increasing steps from 1 to {self.steps - 1}, got {self.record}")

    def __call__(self, f: Map, z0: Tensor, solve: Solve) -> tuple[Tensor, list[Tensor], Flat]:
        refuse_forward_mode()
        with torch.no_grad():
            flat = solve(f, z0.detach())
        with f.block():
            *recorded, value = [state for z in (*flat.recorded, flat.best) for state in self._advance(f, z)]
        return value, recorded, flat

    def _advance(self, f: Map, z: Tensor) -> list[Tensor]:
        """The recorded steps' states and the last one's."""
        states = []
        for step in range(1, self.steps + 1):
            fz = f(z)
            z = torch.lerp(fz, z, self.damping) if self.damping else fz
            if step in self.record or step == self.steps:
                states.append(z)
        return states


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
        on_failure: what the backward pass does when samples end above `stop.tol` (or, without a tolerance,
            non-finite): "ignore", "warn" or "raise", as in `fixed_point`. Anything but "ignore" waits for the device.
    """

    solver: Solver = _BACKWARD_SOLVER
    stop: Stop = _BACKWARD_STOP
    on_failure: OnFailure = "ignore"
    kind: Literal["implicit"] = field(default="implicit", repr=False, kw_only=True)

    def __post_init__(self) -> None:
        check_on_failure(self.on_failure)

    def __call__(self, f: Map, z0: Tensor, solve: Solve) -> tuple[Tensor, list[Tensor], Flat]:
        return _attached(f, z0, solve, self._solve_adjoint)

    def _solve_adjoint(self, f: Map, z: Tensor, gradient: Tensor) -> Tensor:
        return solve_adjoint(f, z, gradient, gradient, self)


def solve_adjoint(
    f: Map, z: Tensor, gradient: Tensor, start: Tensor, by: Implicit, loop: Callable[..., Flat] = iterate
) -> Tensor:
    """u = Jᵀu + gradient at z, from `start`, as `by` says; `loop` is called as `iterate` is."""
    product = transposed_jacobian(f, z)
    if product is None:
        return gradient
    found = loop(lambda u: product(u) + gradient, start, by.solver, by.stop)
    if by.on_failure != "ignore":
        _report(found, by)
    return found.best


def _report(found: Flat, by: Implicit) -> None:
    above = failed(found.residual, found.converged, by.stop)
    if bool(above.any()):
        announce(
            f"the backward pass: {int(above.sum())} of {len(above)} samples did not reach {goal(by.stop)} in "
            f"{by.stop.max_steps} evaluations, worst {float(found.residual.max()):.2e}. Their gradient is off by about "
            "that much or more: raise the max_steps of Implicit's stop, or use Implicit(solver=GMRES())",
            by.on_failure,
        )


@dataclass(frozen=True)
class Truncated:
    """The implicit gradient's Neumann series g + Jᵀg + (Jᵀ)²g + ..., cut after a few terms.

    Inexact: the error is of the order of the spectral radius to the power `terms` where f contracts, and grows with
    `terms` where it does not. Memory and first-order limits as `Implicit`'s. The value is not moved.

    Attributes:
        terms: how many; one is `JacobianFree`. Each beyond costs one product with Jᵀ.
    """

    terms: int = 5
    kind: Literal["truncated"] = field(default="truncated", repr=False, kw_only=True)

    def __post_init__(self) -> None:
        if isinstance(self.terms, bool) or not isinstance(self.terms, int) or self.terms < 1:
            raise ValueError(f"terms must be a whole number, at least 1, got {self.terms!r}")

    def __call__(self, f: Map, z0: Tensor, solve: Solve) -> tuple[Tensor, list[Tensor], Flat]:
        return _attached(f, z0, solve, self._sum if self.terms > 1 else one_step)

    def _sum(self, f: Map, z: Tensor, gradient: Tensor) -> Tensor:
        product, u = transposed_jacobian(f, z), gradient
        if product is not None:
            for _ in range(self.terms - 1):
                u = product(u) + gradient
        return u


@dataclass(frozen=True)
class JacobianFree:
    """Differentiates one evaluation of f at the solution, taken as a constant (Fung et al., AAAI 2022).

    Inexact: it replaces (I - Jᵀ)⁻¹ by the identity, an ascent direction where f contracts and is well conditioned
    (theorem 3.1 there). The backward pass costs one evaluation's. The value is not moved, unlike `Phantom(1)`'s.
    """

    kind: Literal["jacobian_free"] = field(default="jacobian_free", repr=False, kw_only=True)

    def __call__(self, f: Map, z0: Tensor, solve: Solve) -> tuple[Tensor, list[Tensor], Flat]:
        return _attached(f, z0, solve, one_step)


def _attached(f: Map, z0: Tensor, solve: Solve, pullback: Pullback) -> tuple[Tensor, list[Tensor], Flat]:
    """The solution with the gradients of `pullback`, the recorded states with those of one evaluation."""
    refuse_forward_mode()
    with torch.no_grad():
        flat = solve(f, z0.detach())
    with f.block():
        return attach(f, flat.best, pullback), [attach(f, z, one_step) for z in flat.recorded], flat
