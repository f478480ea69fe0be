"""What keeps an equilibrium model well behaved in training."""

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
    """Hutchinson's estimate of |∂f/∂z|² (Frobenius) divided by the state's size, per sample, (B,).

    The Jacobian penalty of Bai et al., ICML 2021: the mean over probes v ~ N(0, I) of |vᵀJ|² / n.
    Differentiable with respect to what f closes over; z is a constant.

    Args:
        f, z: as in `fixed_point`; z is usually the solution.
        probes: how many random vectors, or the vectors themselves, each a tree like z.
        generator: source of the random vectors.
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
    """Weights of the losses of successive states: γ^(states - 1 - i), so the last has weight 1.

    The sequence loss of RAFT (Teed & Deng, ECCV 2020, eq. 7) and the fixed-point correction of DEQ flow
    (Bai et al., CVPR 2022).
    """
    if states < 1:
        raise ValueError(f"states must be at least 1, got {states}")
    if not gamma > 0:
        raise ValueError(f"gamma must be above 0, got {gamma!r}")
    return tuple(gamma ** (states - 1 - i) for i in range(states))


def graph_at(f: Callable[..., Tree], z: Tree) -> tuple[Tensor, Tensor, Ravel]:
    """A flat copy of z that requires gradients, f of it, and the layout."""
    ravel = Ravel(z)
    with torch.inference_mode(False), torch.enable_grad():  # in inference mode no graph is made, enabled or not
        z_flat = ravel.flatten(z).detach().clone().requires_grad_()
        fz = ravel.flatten(apply(f, ravel.unflatten(z_flat)))
    return z_flat, fz, ravel


def vector_jacobian(fz: Tensor, z: Tensor, vector: Tensor, create_graph: bool) -> Tensor:
    """Jᵀ · vector, (B, n), for f(z) with its graph."""
    if not fz.requires_grad:
        return torch.zeros_like(z)
    (product,) = torch.autograd.grad(
        fz, z, vector, retain_graph=True, create_graph=create_graph, materialize_grads=True
    )
    return product


def normal(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Normal numbers in the shape of a tensor."""
    return torch.randn(like.shape, dtype=like.dtype, device=like.device, generator=generator)
