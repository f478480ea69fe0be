"""The spectral radius of the Jacobian, which decides whether plain iteration converges."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from .._solve.map import Map
from .._solve.norms import max_norm, rms_norm, two_norm
from .._solve.tree import Ravel, Tree
from .._solvers.base import inner_products
from .regularize import graph_at, normal, vector_jacobian

Product = Callable[[Tensor], Tensor]

# Least size of a part, relative to the largest part, for its perturbation: smaller ones are lost to rounding.
_LEAST_SHARE = 0.1
# Largest perturbation of an element relative to the root mean square, since truncation error grows with the largest.
_MOST_UNEVEN = 3.0


def spectral_radius(
    f: Callable[..., Tree],
    z: Tree,
    *,
    iterations: int = 30,
    method: Literal["differences", "autograd"] = "differences",
    step: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Spectral radius of ∂f/∂z of each sample, (B,), detached; NaN where f is not finite.

    Below 1, plain iteration converges near z, at that rate.

    Arnoldi's method (Saad, Numerical Methods for Large Eigenvalue Problems, SIAM 2011, section 6.2) from a random
    vector, without forming the Jacobian: the largest magnitude of the eigenvalues of its projection, complex pairs
    included. It holds `iterations` + 1 states, and is exact with as many iterations as a sample has elements. If many
    eigenvalues lie near the largest, the estimate is a little low.

    "differences" are finite differences (f(z + h v) - f(z)) / h, so they give the radius of the map that is iterated,
    whatever f does with autograd, by `iterations` + 1 evaluations and no graph. h v is a share `step` of z, for each
    part of the state by its own norm (at least a tenth of the largest), so that parts in different units are perturbed
    alike. For a smooth f the relative error is about that share; kinks of f closer to z (of a ReLU, of a bilinear
    lookup) are averaged over. In half precision the result means little.

    "autograd" gives the radius of the Jacobian that gradients see, up to rounding error, by one evaluation and
    `iterations` products. If f detaches a part of its argument, this radius is another one and often much smaller, and
    may be below 1 for an iteration that diverges. If f does not detach, it is exact.

    Args:
        f: as in `fixed_point`.
        z: the state, usually a solution.
        iterations: number of products with the Jacobian, at least 2.
        method: how the Jacobian is applied.
        step: size of the differences relative to z, above 0; by default the square root of the precision in which f
            computes.
        generator: source of the random vector, on the device of z.

    Raises:
        ValueError: an argument is out of range; or for f, as in `fixed_point`.
    """
    if iterations < 2:
        raise ValueError(f"iterations must be at least 2, got {iterations}")
    if method not in ("differences", "autograd"):
        raise ValueError(f'method must be "differences" or "autograd", got {method!r}')
    if step is not None and not step > 0:
        raise ValueError(f"step must be above 0, got {step!r}")
    if method == "autograd":
        z_flat, fz, _ = graph_at(f, z)
        product: Product = lambda v: vector_jacobian(fz, z_flat, v, create_graph=False)  # noqa: E731
        with torch.no_grad():
            return _largest(_projection(product, normal(z_flat, generator), iterations)).to(z_flat.dtype)
    ravel = Ravel(z)
    g = Map(f, ravel)
    with torch.no_grad(), g.block():
        flat = ravel.flatten(z)
        product = _differences(g, flat, _precision(ravel) ** 0.5 if step is None else step)
        return _largest(_projection(product, normal(flat, generator), iterations)).to(flat.dtype)


def _precision(ravel: Ravel) -> float:
    """The rounding unit of f: that of the leaf with the lowest precision, or of autocast."""
    device = ravel.device.type
    kinds = [*ravel.dtypes, *([torch.get_autocast_dtype(device)] if torch.is_autocast_enabled(device) else [])]
    return max(torch.finfo(kind).eps for kind in kinds)


def _differences(g: Map, z: Tensor, step: float) -> Product:
    """The product v → D⁻¹ J D v, which has the eigenvalues of J; D is diagonal, with the size of each part."""
    fz = g(z).clone()  # f may reuse its memory
    sizes = g.ravel.sizes
    own, image = (torch.stack([rms_norm(part) for part in state.split(sizes, 1)], 1) for state in (z, fz))
    size = torch.where(own.amax(1, keepdim=True) > 0, own, image)
    size = torch.maximum(size, _LEAST_SHARE * size.amax(1, keepdim=True))
    size = torch.where((size > 0) & (size < torch.inf), size, 1.0)
    unit = torch.repeat_interleave(size, torch.tensor(sizes, device=z.device), dim=1)

    def product(v: Tensor) -> Tensor:
        length = torch.maximum(rms_norm(v), max_norm(v) / _MOST_UNEVEN)
        multiple = torch.where(length > 0, step / length, 1.0)[:, None]
        return (g(z + multiple * v * unit) - fz) / unit / multiple

    return product


def _projection(product: Product, start: Tensor, iterations: int) -> Tensor:
    """The projection of `product` onto its Krylov space from `start` (B, n): a matrix (B, m, m), float64.

    For a sample whose Krylov space has fewer dimensions, the rest of the matrix is 0.
    """
    rows = min(iterations, start.shape[1])
    basis = start.new_zeros(len(start), rows, start.shape[1])
    matrix = start.new_zeros(len(start), rows + 1, rows, dtype=torch.float64)
    vector = start / two_norm(start)[:, None]
    for column in range(rows):
        basis[:, column] = vector
        seen = basis[:, : column + 1]
        vector = product(vector)
        whole = two_norm(vector)
        for _ in range(2):  # the second pass removes what rounding has left
            weights = inner_products(vector, seen)
            vector = vector - torch.bmm(weights[:, None], seen)[:, 0]
            matrix[:, : column + 1, column] += weights
        length = two_norm(vector)
        new = length > 10 * torch.finfo(vector.dtype).eps * whole
        matrix[:, column + 1, column] = torch.where(new, length, 0.0)
        vector = torch.where(new[:, None], vector / length[:, None], 0.0)
    return matrix[:, :rows]


def _largest(matrix: Tensor) -> Tensor:
    """Spectral radius of each matrix (B, m, m), (B,); NaN where f was not finite."""
    finite = matrix.isfinite().all(2).all(1)
    matrix = torch.where(finite[:, None, None], matrix, 0.0)
    radius = torch.linalg.eigvals(matrix.cpu()).abs().amax(1).to(matrix.device)
    return torch.where(finite, radius, torch.nan)
