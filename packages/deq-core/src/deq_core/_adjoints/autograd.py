"""Attaches gradients to a solution: the graph of one evaluation of f, and the adjoint's rule for its gradient."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import get_unwrapped, is_batchedtensor, is_functorch_wrapped_tensor
from torch.autograd import forward_ad

from .._solve.iterate import Flat, Solve
from .._solve.map import Map
from .._solve.modes import in_transform, may_look
from .._solve.norms import two_norm

# (f, z, gradient of the loss at the solution) → the gradient to backpropagate through f(z); all (B, n).
Pullback = Callable[[Map, Tensor, Tensor], Tensor]

# The checksum of f may change by this share of |f(z)| until the backward pass; nondeterminism changes it far less.
_CHANGE = 0.02


def solve_and_attach(f: Map, z0: Tensor, solve: Solve, pullback: Pullback) -> tuple[Tensor, list[Tensor], Flat]:
    """Solves without a graph, and attaches gradients: `pullback` to the solution, `one_step` to recorded states."""
    refuse_forward_mode()
    with torch.no_grad():
        flat = solve(f, z0.detach())
    with f.block():
        return attach(f, flat.best, pullback), [attach(f, z, one_step) for z in flat.recorded], flat


def attach(f: Map, z: Tensor, pullback: Pullback) -> Tensor:
    """`z` (B, n) with the graph of one more evaluation of f, through which the gradient of `pullback` flows."""
    return with_history(f(z), z, f, pullback)


def with_history(fz: Tensor, value: Tensor, f: Map, pullback: Pullback) -> Tensor:
    """`value` (B, n) with the graph of `fz`: its gradient goes on to `fz` as `pullback(f, value, gradient)`."""
    if not fz.requires_grad:
        refuse_mapped(fz)
        return value
    if pullback is not one_step:
        f.projection = _projected(fz.detach())
    try:
        return _PulledBack.apply(fz, value, f, pullback)
    except RuntimeError as error:
        if "functorch" not in str(error):
            raise
        raise RuntimeError(
            "an implicit gradient does not pass through torch.func transforms: use adjoint=Phantom() or Unrolled()"
        ) from error


class _PulledBack(torch.autograd.Function):
    """Returns `value`, and passes its gradient through the pullback to `fz`."""

    @staticmethod
    def forward(ctx: Any, fz: Tensor, value: Tensor, f: Map, pullback: Pullback) -> Tensor:
        ctx.save_for_backward(value)
        ctx.f, ctx.pullback = f, pullback
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (value,) = ctx.saved_tensors
        with torch.no_grad(), ctx.f.without_autocast():
            of_fz = ctx.pullback(ctx.f, value, gradients[0])
        if torch.is_grad_enabled():
            of_fz = _FirstOrder.apply(of_fz.detach().requires_grad_())
        return of_fz, None, None, None


class _FirstOrder(torch.autograd.Function):
    """The identity, whose derivative raises: how the adjoint depends on the parameters was not recorded."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        raise RuntimeError(
            "this gradient can be taken once only: its own dependence on the parameters is not recorded. "
            "Use adjoint=Unrolled() where you differentiate twice"
        )


def one_step(f: Map, z: Tensor, gradient: Tensor) -> Tensor:
    """The pullback that differentiates f(z) with z held constant."""
    return gradient


def transposed_jacobian(f: Map, z: Tensor, *, waits: bool = False) -> Callable[[Tensor], Tensor] | None:
    """The product u → Jᵀu at z, from one more evaluation of f with the solve's masks; None if f does not depend on z.

    Args:
        f: the map.
        z: the state (B, n) at which `with_history` attached gradients.
        waits: whether the host waits for the device anyway.

    Raises:
        RuntimeError: f(z) has changed since.
    """
    with f.block(), torch.enable_grad():
        z = z.detach().requires_grad_()
        fz = f(z)
    if f.projection is not None and may_look(fz, waits=waits):
        _refuse_change(f.projection, fz.detach())
    if not fz.requires_grad:
        return None

    def product(u: Tensor) -> Tensor:
        return torch.autograd.grad(fz, z, u, retain_graph=True, materialize_grads=True)[0]

    return product


def _projected(fz: Tensor) -> Tensor:
    """The checksum Σ f(z)ₖ cos(k), k the column: it tells apart states of the same norm and mean."""
    dtype = torch.promote_types(fz.dtype, torch.float32)
    return (fz.to(dtype) @ torch.arange(fz.shape[1], dtype=dtype, device=fz.device).cos()).sum()


def _refuse_change(projection: Tensor, fz: Tensor) -> None:
    """Raises if f(z) does not have this projection."""
    if bool((_projected(fz) - projection).abs() > _CHANGE * two_norm(fz.reshape(1, -1))):
        raise RuntimeError(
            "f has changed between the solve and the backward pass. In a loop, `lambda z: cell(z, x)` "
            "sees the last x by then: write `lambda z, x=x: cell(z, x)`. Weights and modes (train, eval) "
            "must stay too: call optimizer.step() after the last backward pass"
        )


def refuse_forward_mode() -> None:
    """Raises in forward-mode differentiation, which would differentiate the solver's steps instead of the equation."""
    if not torch.compiler.is_compiling() and forward_ad._current_level >= 0:
        raise RuntimeError(
            "forward-mode differentiation (torch.func.jvp, dual tensors) follows the solver's own steps: "
            "use adjoint=Unrolled()"
        )


def refuse_mapped(fz: Tensor) -> None:
    """Raises if `torch.vmap` hides that f(z) requires a gradient, which would be lost silently."""
    if torch.compiler.is_compiling() or not in_transform() or not is_batchedtensor(fz):
        return
    while is_functorch_wrapped_tensor(fz):
        fz = get_unwrapped(fz)
    if fz.requires_grad:
        raise RuntimeError(
            "this gradient does not pass through torch.vmap: use adjoint=Phantom() or Unrolled(), or torch.no_grad() "
            "where no gradient is needed"
        )
