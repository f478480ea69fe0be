"""How gradients reach what f closes over."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from ._iterate import Flat, iterate
from ._map import Map
from ._solver import Anderson, Solver
from ._solver.base import check_damping
from ._stop import Stop

Solve = Callable[[Map, Tensor], Flat]

_BACKWARD_SOLVER = Anderson()
_BACKWARD_STOP = Stop(max_steps=40, tol=1e-6)


@runtime_checkable
class Adjoint(Protocol):
    """How gradients reach what f closes over; called only while autograd records."""

    def __call__(self, f: Map, z0: Tensor, solve: Solve) -> tuple[Tensor, list[Tensor], Flat]:
        """The solution and the recorded states, both with gradients, and what `solve(f, z0)` found.

        Args:
            f: the map on (B, n) states; enter `f.block()` round evaluations of one autograd mode.
            z0: (B, n) where the solve starts.
            solve: runs the loop.
        """
        ...


@dataclass(frozen=True)
class Unrolled:
    """Differentiates the solver's own operations: the exact gradient of what was computed, also with respect to z0.

    Memory grows with the number of evaluations. Supports double backward and `torch.func`.
    """

    kind: Literal["unrolled"] = field(default="unrolled", repr=False, kw_only=True)

    def __call__(self, f: Map, z0: Tensor, solve: Solve) -> tuple[Tensor, list[Tensor], Flat]:
        flat = solve(f, z0)
        return flat.best, flat.recorded, flat


@dataclass(frozen=True)
class Phantom:
    """Differentiates a few more damped steps taken from the solution (Geng et al., NeurIPS 2021, eq. 7).

    The gradient is inexact: a truncated, damped Neumann series of the implicit one, an ascent direction where f
    contracts. The value is moved by the steps too. One step without damping is the Jacobian-free gradient of
    Fung et al., AAAI 2022.

    Attributes:
        steps: evaluations of f that are differentiated; memory grows with them.
        damping: share of the old state that is kept in each, in [0, 1). The released code's tau is 1 - damping.
    """

    steps: int = 1
    damping: float = 0.0
    kind: Literal["phantom"] = field(default="phantom", repr=False, kw_only=True)

    def __post_init__(self) -> None:
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 1:
            raise ValueError(f"steps must be a whole number of evaluations, at least 1, got {self.steps!r}")
        check_damping(self.damping)

    def __call__(self, f: Map, z0: Tensor, solve: Solve) -> tuple[Tensor, list[Tensor], Flat]:
        with torch.no_grad():
            flat = solve(f, z0.detach())
        with f.block():
            return self._advance(f, flat.best), [self._advance(f, z) for z in flat.recorded], flat

    def _advance(self, f: Map, z: Tensor) -> Tensor:
        for _ in range(self.steps):
            fz = f(z)
            z = torch.lerp(fz, z, self.damping) if self.damping else fz
        return z


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
    """

    solver: Solver = _BACKWARD_SOLVER
    stop: Stop = _BACKWARD_STOP
    kind: Literal["implicit"] = field(default="implicit", repr=False, kw_only=True)

    def __call__(self, f: Map, z0: Tensor, solve: Solve) -> tuple[Tensor, list[Tensor], Flat]:
        with torch.no_grad():
            flat = solve(f, z0.detach())
        with f.block():
            value = attach(f, flat.best, self._solve_adjoint)
            recorded = [attach(f, z, one_step) for z in flat.recorded]
        return value, recorded, flat

    def _solve_adjoint(self, f: Map, z: Tensor, gradient: Tensor) -> Tensor:
        with f.block(), torch.enable_grad():
            z = z.detach().requires_grad_()
            fz = f(z)
        if not fz.requires_grad:
            return gradient

        def adjoint(u: Tensor) -> Tensor:
            (product,) = torch.autograd.grad(fz, z, u, retain_graph=True, materialize_grads=True)
            return product + gradient

        return iterate(adjoint, gradient, self.solver, self.stop).best


Pullback = Callable[[Map, Tensor, Tensor], Tensor]


def one_step(f: Map, z: Tensor, gradient: Tensor) -> Tensor:
    """The gradient as it is: f's image is differentiated, its argument is a constant."""
    return gradient


def attach(f: Map, z: Tensor, pullback: Pullback) -> Tensor:
    """`z`, with gradients to what f closes over: `pullback(f, z, gradient)` is handed to the graph of f(z)."""
    image = f(z)
    if not image.requires_grad:
        return z
    try:
        return _Attach.apply(image, z, f, pullback)
    except RuntimeError as error:
        if "functorch" not in str(error):
            raise
        raise RuntimeError(
            "an implicit gradient does not pass through torch.func transforms: use adjoint=Phantom() or Unrolled()"
        ) from error


class _Attach(torch.autograd.Function):
    """The state as the value, the image's graph as the history."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, z: Tensor, f: Map, pullback: Pullback) -> Tensor:
        ctx.save_for_backward(z)
        ctx.f, ctx.pullback = f, pullback
        return z.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (z,) = ctx.saved_tensors
        with torch.no_grad():
            image_gradient = ctx.pullback(ctx.f, z, gradients[0])
        if torch.is_grad_enabled():
            image_gradient = _FirstOrder.apply(image_gradient.detach().requires_grad_())
        return image_gradient, None, None, None


class _FirstOrder(torch.autograd.Function):
    """The identity, whose derivative is refused: the adjoint's dependence on the parameters was not recorded."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        raise RuntimeError(
            "this gradient can be taken once only: its own dependence on the parameters is not recorded. "
            "Use adjoint=Unrolled() where you differentiate twice"
        )
