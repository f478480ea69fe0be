"""The largest eigenvalue of a map's Jacobian, which decides whether plain iteration converges."""

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

# A part of small numbers is disturbed as one whose numbers are this share of the largest part's: less is rounded away.
_LEAST_SHARE = 0.1
# How much more than the average an element of the state is disturbed at most: truncation grows with the largest.
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
    """Magnitude of the largest eigenvalue of ∂f/∂z, per sample, (B,), detached.

    Below 1, plain iteration converges near z, at that rate.

    Arnoldi's method (Saad, Numerical Methods for Large Eigenvalue Problems, SIAM 2011, section 6.2) from a random
    vector, without forming the Jacobian: the radius is the largest of the eigenvalues of its projection, complex pairs
    included. It holds `iterations` + 1 states, and with as many iterations as a sample has elements it is exact. Where
    many eigenvalues lie near the largest it comes out a little low.

    By "differences" of f, (f(z + h v) - f(z)) / h, it is the radius of the map that is iterated, whatever f does with
    autograd; it takes `iterations` + 1 evaluations and no graph. h v is a share `step` of z, each part of the state by
    its own length, so that parts of different units are disturbed alike. The radius is right to about that share for a
    smooth f; kinks of f closer to z (of a ReLU, of a bilinear lookup) are averaged over. In half precision it means
    little.

    By "autograd" it is that of the Jacobian which gradients see, to rounding, by one evaluation and `iterations`
    products with it. Where f detaches a part of its argument that is another one, often much smaller: it may say that
    an iteration converges which does not. Where f can be told not to detach, it is the exact one.

    Args:
        f, z: as in `fixed_point`; z is usually the solution.
        iterations: at least 2.
        method: how the Jacobian is applied.
        step: of the differences, relative to z; None is the square root of the precision in which f computes.
        generator: source of the random vector.

    Raises:
        ValueError: fewer iterations, another method, a step that is not above 0; f as in `fixed_point`.
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
    """The relative rounding of f: of its coarsest leaf, or of autocast."""
    device = ravel.device.type
    kinds = [*ravel.dtypes, *([torch.get_autocast_dtype(device)] if torch.is_autocast_enabled(device) else [])]
    return max(torch.finfo(kind).eps for kind in kinds)


def _differences(g: Map, z: Tensor, step: float) -> Product:
    """v → D⁻¹ J D v, which has the eigenvalues of J, with the size of each part on the diagonal of D."""
    fz = g(z).clone()  # f may fill its memory again
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
    """(B, m, m) the matrix of `product` on the space that `start` (B, n) spans under it, float64.

    Where that space is smaller for a sample, the rest of its matrix is 0.
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
        for _ in range(2):  # the second time takes what rounding has left of the first
            weights = inner_products(vector, seen)
            vector = vector - torch.bmm(weights[:, None], seen)[:, 0]
            matrix[:, : column + 1, column] += weights
        length = two_norm(vector)
        new = length > 10 * torch.finfo(vector.dtype).eps * whole
        matrix[:, column + 1, column] = torch.where(new, length, 0.0)
        vector = torch.where(new[:, None], vector / length[:, None], 0.0)
    return matrix[:, :rows]


def _largest(matrix: Tensor) -> Tensor:
    """Magnitude of the largest eigenvalue of each of (B, m, m), (B,); no number where f gave none."""
    finite = matrix.isfinite().all(2).all(1)
    matrix = torch.where(finite[:, None, None], matrix, 0.0)
    radius = torch.linalg.eigvals(matrix.cpu()).abs().amax(1).to(matrix.device)
    return torch.where(finite, radius, torch.nan)
