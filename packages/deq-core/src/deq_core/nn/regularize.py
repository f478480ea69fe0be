"""The Jacobian penalty and the weights of intermediate losses."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .._solve.map import apply
from .._solve.tree import Ravel, Tree


def jacobian_frobenius(
    f: Callable[..., Tree],
    z: Tree,
    *,
    probes: int | Sequence[Tree] = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Hutchinson's estimate of the squared Frobenius norm of ∂f/∂z divided by the size n of the state, (B,).

    The Jacobian penalty of Bai et al., ICML 2021: the mean over probes v ~ N(0, I) of |vᵀJ|² / n. Differentiable with
    respect to the tensors that f closes over; z is a constant.

    Args:
        f: as in `fixed_point`.
        z: the state, usually a solution.
        probes: number of random vectors, or the vectors themselves, each a tree like z.
        generator: source of the random vectors, on the device of z.

    Raises:
        ValueError: there is no probe, or one is unlike z; or for f, as in `fixed_point`.
    """
    differentiable = torch.is_grad_enabled()
    z_flat, fz, ravel = graph_at(f, z)
    if isinstance(probes, int):
        vectors = [normal(z_flat, generator) for _ in range(probes)]
    else:
        vectors = [ravel.flatten(probe) for probe in probes]
    if not vectors:
        raise ValueError(f"probes must be at least 1 vector, got {probes!r}")
    total = z_flat.new_zeros(len(z_flat))
    for vector in vectors:
        product = vector_jacobian(fz, z_flat, vector, create_graph=differentiable)
        total = total + product.square().mean(1)
    return total / len(vectors)


def exponential_weights(states: int, gamma: float = 0.8) -> tuple[float, ...]:
    """Weights γ^(states - 1 - i) of the losses of successive states; the last one has weight 1.

    Those of the sequence loss of RAFT (Teed & Deng, ECCV 2020, eq. 7) and of the fixed-point correction of DEQ flow
    (Bai et al., CVPR 2022).

    Raises:
        ValueError: `states` is below 1, or `gamma` not above 0.
    """
    if states < 1:
        raise ValueError(f"states must be at least 1, got {states}")
    if not gamma > 0:
        raise ValueError(f"gamma must be above 0, got {gamma!r}")
    return tuple(gamma ** (states - 1 - i) for i in range(states))


def graph_at(f: Callable[..., Tree], z: Tree) -> tuple[Tensor, Tensor, Ravel]:
    """A flat copy of z that requires gradients, f of it, and the layout of the state."""
    ravel = Ravel(z)
    with torch.inference_mode(False), torch.enable_grad():  # enable_grad does not override inference mode
        z_flat = ravel.flatten(z).detach().clone().requires_grad_()
        fz = ravel.flatten(apply(f, ravel.unflatten(z_flat)))
    return z_flat, fz, ravel


def vector_jacobian(fz: Tensor, z: Tensor, vector: Tensor, create_graph: bool) -> Tensor:
    """The product Jᵀ · vector, (B, n), by the graph of fz = f(z)."""
    if not fz.requires_grad:
        return torch.zeros_like(z)
    (product,) = torch.autograd.grad(
        fz, z, vector, retain_graph=True, create_graph=create_graph, materialize_grads=True
    )
    return product


def normal(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Normal numbers with the shape, dtype and device of a tensor."""
    return torch.randn(like.shape, dtype=like.dtype, device=like.device, generator=generator)
