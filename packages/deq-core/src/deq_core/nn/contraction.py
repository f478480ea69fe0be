"""A penalty on maps that do not contract near a state."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .._solve.map import Map
from .._solve.norms import two_norm
from .._solve.tree import Ravel, Tree

# A direction shorter than this, relative to z, counts as zero: its reciprocal would overflow.
_LEAST = 1e-30


def contraction(
    f: Callable[..., Tree],
    z: Tree,
    fz: Tree | None = None,
    *,
    direction: Tree | None = None,
    bound: float = 0.7,
    step: float = 0.05,
    weights: Sequence[float] | None = None,
    floors: Sequence[float] | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Penalty relu(|f(z + d) - f(z)| / |d| - bound), (B,): 0 where f contracts along d by a factor of `bound`.

    It bounds the Jacobian along one direction by a finite difference, so it takes one evaluation of f besides f(z) and
    first-order gradients, while `jacobian_frobenius` differentiates twice. The last step of a solve, d = z - z_before,
    is along the slowest directions, in which the iterates still move. What f detaches from autograd counts as well.

    Norms are by part, that is by leaf of the state: |x|² = Σ_p (weight_p |x_p| / |z_p|)², so that a part of large
    numbers does not hide the others. A part that is 0 in z, or whose weight is 0, is neither moved nor counted. If no
    part is left, or d is 0, the penalty is 0. With `bound=0` it is the ratio itself.

    Differentiable with respect to what f and `fz` depend on; z and d are constants. Half-precision states are measured
    in float32. Both evaluations of f use the same dropout masks; if you pass `fz`, open a `solve_scope` around both.

    Args:
        f: as in `fixed_point`.
        z: a state near the solution.
        fz: f(z), with its graph, if it is known; saves one of the two evaluations.
        direction: a tree like z of any norm: d is the multiple of it with |d| = step · |z|. None is a random direction
            that moves every part.
        bound: largest ratio without a penalty, at least 0.
        step: |d| / |z|, above 0.
        weights: weight of each part, by default 1.
        floors: least root mean square of each part, in its unit, from which |z_p| is computed, by default 0. It keeps
            the norm of a part that is nearly 0, such as flow between identical frames, from being divided by nearly 0.
        generator: source of the random direction.

    Raises:
        ValueError: an argument is out of range, or `fz` or `direction` is unlike z; or for f, as in `fixed_point`.
    """
    if not (bound >= 0 and step > 0):
        raise ValueError(f"bound must be at least 0 and step above 0, got {bound!r} and {step!r}")
    ravel = Ravel(z)
    factors, least = _per_part("weights", weights, 1.0, ravel), _per_part("floors", floors, 0.0, ravel)
    g, start = Map(f, ravel), _flat("z", z, ravel).detach()
    with g.block():
        base = g(start).clone() if fz is None else _flat("fz", fz, ravel)
        with torch.no_grad():
            scale = torch.maximum(_lengths(start, ravel), least * _roots(ravel))
            factors = torch.where(scale > 0, factors / scale, 0.0)
            if direction is None:
                moved = _normal(start, generator) * _columns(scale / _roots(ravel), ravel)
            else:
                moved = _flat("direction", direction, ravel).detach()
            moved = torch.where(_columns(factors, ravel) > 0, moved, 0.0)
            length = _norm(moved, factors, ravel)
            multiple = torch.where(length > _LEAST, step * _norm(start, factors, ravel) / length, 0.0)
            state = start + multiple[:, None] * moved
            # The perturbation as f sees it, rounded to the precision of the leaves.
            distance = _norm(ravel.flatten(ravel.unflatten(state)) - start, factors, ravel)
        change = _norm(g(state) - base, factors, ravel)
        ratio = change / torch.where(distance > 0, distance, 1.0)
        return torch.where(distance > 0, torch.relu(ratio - bound), 0.0)


def _norm(x: Tensor, factors: Tensor, ravel: Ravel) -> Tensor:
    """The norm of x (B, n) by parts, (B,); its gradient at 0 is 0."""
    return two_norm(_lengths(x, ravel) * factors)


def _lengths(x: Tensor, ravel: Ravel) -> Tensor:
    """The Euclidean norm of each part, (B, parts)."""
    return torch.stack([two_norm(part) for part in x.split(ravel.sizes, dim=1)], dim=1)


def _columns(numbers: Tensor, ravel: Ravel) -> Tensor:
    """(B, parts) → (B, n): the number of each part, repeated in its columns."""
    columns = [number[:, None].expand(-1, size) for number, size in zip(numbers.unbind(1), ravel.sizes, strict=True)]
    return torch.cat(columns, dim=1)


def _roots(ravel: Ravel) -> Tensor:
    """The square root of the size of each part, (parts,): the ratio of Euclidean norm to root mean square."""
    return torch.tensor([math.sqrt(size) for size in ravel.sizes], dtype=ravel.dtype, device=ravel.device)


def _per_part(name: str, numbers: Sequence[float] | None, default: float, ravel: Ravel) -> Tensor:
    """The numbers given, or the default for each part, (parts,)."""
    found = [default] * len(ravel.sizes) if numbers is None else list(numbers)
    if len(found) != len(ravel.sizes) or not all(0 <= number < math.inf for number in found):
        raise ValueError(
            f"{name} must be one number, at least 0, for each part of the state ({', '.join(ravel.names)}), "
            f"got {numbers!r}"
        )
    return torch.tensor(found, dtype=ravel.dtype, device=ravel.device)


def _flat(name: str, tree: Tree, ravel: Ravel) -> Tensor:
    try:
        return ravel.flatten(tree)
    except ValueError as error:
        raise ValueError(f"{name} must have the structure, shapes and device of z: {error}") from error


def _normal(like: Tensor, generator: torch.Generator | None) -> Tensor:
    device = like.device if generator is None else generator.device
    return torch.randn(like.shape, dtype=like.dtype, device=device, generator=generator).to(like.device)
