"""A state as the value, one evaluation's graph as the history."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import get_unwrapped, is_batchedtensor, is_functorch_wrapped_tensor
from torch.autograd import forward_ad

from .._solve.map import Map
from .._solve.modes import in_transform

Pullback = Callable[[Map, Tensor, Tensor], Tensor]


def one_step(f: Map, z: Tensor, gradient: Tensor) -> Tensor:
    """The gradient as it is: f's image is differentiated, its argument is a constant."""
    return gradient


def transposed_jacobian(f: Map, z: Tensor) -> Callable[[Tensor], Tensor] | None:
    """u → Jᵀu at z, evaluating f once more under the circumstances of the solve; None where f is constant."""
    with f.block(), torch.enable_grad():
        z = z.detach().requires_grad_()
        fz = f(z)
    if not fz.requires_grad:
        return None

    def product(u: Tensor) -> Tensor:
        return torch.autograd.grad(fz, z, u, retain_graph=True, materialize_grads=True)[0]

    return product


def refuse_forward_mode() -> None:
    """Raises within forward-mode differentiation, which follows the solver where a gradient does not."""
    if not torch.compiler.is_compiling() and forward_ad._current_level >= 0:
        raise RuntimeError(
            "forward-mode differentiation (torch.func.jvp, dual tensors) follows the solver's own steps: "
            "use adjoint=Unrolled()"
        )


def refuse_mapped(image: Tensor) -> None:
    """Raises where `torch.vmap` hides that an image has a gradient, which would be lost without a word."""
    if torch.compiler.is_compiling() or not in_transform() or not is_batchedtensor(image):
        return
    while is_functorch_wrapped_tensor(image):
        image = get_unwrapped(image)
    if image.requires_grad:
        raise RuntimeError(
            "this gradient does not pass through torch.vmap: use adjoint=Phantom() or Unrolled(), or torch.no_grad() "
            "where no gradient is needed"
        )


def attach(f: Map, z: Tensor, pullback: Pullback) -> Tensor:
    """`z`, with gradients to what f closes over: `pullback(f, z, gradient)` is handed to the graph of f(z)."""
    return with_history(f(z), z, f, pullback)


def with_history(image: Tensor, value: Tensor, f: Map, pullback: Pullback) -> Tensor:
    """`value`, with the graph of `image`, to which `pullback(f, value, gradient)` is handed."""
    if not image.requires_grad:
        refuse_mapped(image)
        return value
    try:
        return _Attach.apply(image, value, f, pullback)
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
        with torch.no_grad(), ctx.f.without_autocast():
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
