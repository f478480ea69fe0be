"""A penalty on maps that expand near a state."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .._solve.map import Map
from .._solve.norms import two_norm
from .._solve.tree import Ravel, Tree

# A direction shorter than this, relative to z, is none: its reciprocal would overflow.
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
    """Penalty relu(|f(z + d) - f(z)| / |d| - bound) per sample, (B,): 0 where f contracts along d by `bound`.

    Bounds the Jacobian along one direction by finite differences, for one evaluation of f beside f(z) and first-order
    gradients, where `jacobian_frobenius` differentiates twice. Along the last step of a solve, d = z - z_before, it
    finds the slowest directions, by which the iterates still move. What f detaches from autograd counts as well.

    Lengths are by part, a part being a leaf of the state: |x|² = Σ_p (weight_p |x_p| / |z_p|)², so that a part of
    large numbers hides no other. A part that is 0 in z, or whose weight is 0, is left out: it is not moved and does not
    count. Where that leaves nothing, and where d is 0, the penalty is 0. With `bound=0` it is the ratio itself.

    Differentiable with respect to what f and `fz` depend on; z and d are constants. States of half precision are
    measured in float32. Both evaluations of f see one set of dropout masks; where `fz` is given, open a `solve_scope`
    round both.

    Args:
        f, z: as in `fixed_point`; z is a state near the solution.
        fz: f(z), with its graph, where it is known: spares one of the two evaluations.
        direction: a tree like z, of any length: d is a multiple of it with |d| = step · |z|. None is a random one that
            moves every part.
        bound: the ratio that is free, at least 0.
        step: |d| / |z|, above 0.
        weights: how much each part counts, one number a part; None is 1 for each.
        floors: root mean square, in the part's own unit, below which |z_p| counts as that of such a part; one a part.
            So a part that is nearly 0, flow between identical frames, is not measured against nothing. None is 0 each.
        generator: source of the random direction.

    Raises:
        ValueError: a setting outside its range; `fz` or `direction` unlike z; f as in `fixed_point`.
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
            # What f sees, in the precision of its leaves.
            distance = _norm(ravel.flatten(ravel.unflatten(state)) - start, factors, ravel)
        change = _norm(g(state) - base, factors, ravel)
        ratio = change / torch.where(distance > 0, distance, 1.0)
        return torch.where(distance > 0, torch.relu(ratio - bound), 0.0)


def _norm(x: Tensor, factors: Tensor, ravel: Ravel) -> Tensor:
    """(B,) the length of x (B, n) by parts; its gradient where x is 0 is 0."""
    return two_norm(_lengths(x, ravel) * factors)


def _lengths(x: Tensor, ravel: Ravel) -> Tensor:
    """(B, parts) the length of each part."""
    return torch.stack([two_norm(part) for part in x.split(ravel.sizes, dim=1)], dim=1)


def _columns(numbers: Tensor, ravel: Ravel) -> Tensor:
    """(B, parts) → (B, n): every part's number in each of its columns."""
    columns = [number[:, None].expand(-1, size) for number, size in zip(numbers.unbind(1), ravel.sizes, strict=True)]
    return torch.cat(columns, dim=1)


def _roots(ravel: Ravel) -> Tensor:
    """(parts,) the square root of each part's size: its length over its root mean square."""
    return torch.tensor([math.sqrt(size) for size in ravel.sizes], dtype=ravel.dtype, device=ravel.device)


def _per_part(name: str, numbers: Sequence[float] | None, default: float, ravel: Ravel) -> Tensor:
    """(parts,) the numbers given, or the default."""
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
