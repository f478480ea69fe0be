"""Residuals of the parts of a state: what a part's residual is, and how small it must become."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .map import Map
from .modes import may_look
from .norms import Norm, of_rows, two_norm
from .tree import Ravel, Tree


@dataclass(frozen=True)
class Part:
    """What is asked of one part of a state, a leaf of its tree: `Stop(parts=(Part(1e-3), Part(0.02, relative=False)))`.

    Attributes:
        tol: the part's residual at which it has converged, above 0; `None` measures the part and asks nothing of it but
            to be finite.
        relative: judge |f(z) - z| / |f(z)| of this part rather than |f(z) - z|, which is in the part's own unit.
        norm: (B, n) → (B,), applied to the part of each sample, as in `Stop`: `rms_norm` for a length per element.
    """

    tol: float | None
    relative: bool = True
    norm: Norm = two_norm

    def __post_init__(self) -> None:
        if self.tol is not None and not self.tol > 0:
            raise ValueError(f"tol of a part must be None or above 0, got {self.tol!r}")
        if not callable(self.norm):
            raise TypeError(f"norm of a part must map (B, n) to (B,), such as two_norm, got {self.norm!r}")


def part_residuals(f: Callable[..., Tree], z: Tree, *, parts: Sequence[Part] = ()) -> Tensor:
    """Residual of every part of every sample at z, (B, parts), in the order of the state's leaves; one evaluation of f.

    The residual of a whole state hides its small parts: that of (hidden, flow) is nearly hidden's alone.

        deq.part_residuals(f, solution.value)

    Args:
        f, z: as in `fixed_point`; z is usually the solution.
        parts: how each is measured, one a leaf; their tolerances are not asked for. () is relative, by `two_norm`.

    Raises:
        ValueError: not one part a leaf; f as in `fixed_point`.
    """
    ravel = Ravel(z)
    parts = tuple(parts) or (Part(None),) * len(ravel.sizes)
    check_parts(parts, ravel.sizes, ravel.names)
    g = Map(f, ravel)
    with torch.no_grad(), g.block():
        flat = ravel.flatten(z)
        return by_part(parts, ravel.sizes, flat, g(flat), look=may_look(flat))


def by_part(
    parts: Sequence[Part],
    sizes: Sequence[int],
    z: Tensor,
    fz: Tensor,
    *,
    look: bool,
    scratch: Tensor | None = None,
) -> Tensor:
    """Residual of every part of every sample, (B, parts).

    Args:
        parts, sizes: what each is, and how many columns it has.
        z, fz: a state and f of it, (B, n).
        look: whether the host may read numbers.
        scratch: (B, n) to write f(z) - z into.
    """
    difference = fz - z if scratch is None else torch.sub(fz, z, out=scratch)
    residuals = []
    for part, own, of_fz in zip(parts, difference.split(sizes, 1), fz.split(sizes, 1), strict=True):
        length = of_rows(part.norm, own, look=look)
        residuals.append(length.over(of_rows(part.norm, of_fz, look=look)) if part.relative else length.bounded())
    return torch.stack(residuals, dim=1)


def worst(parts: Sequence[Part], residuals: Tensor) -> Tensor:
    """(B,) the largest residual over its tolerance, by the residuals (B, parts): 1 where all are just within.

    Finite where all residuals are.
    """
    ratios = torch.stack(
        [one / (part.tol or math.inf) for part, one in zip(parts, residuals.unbind(1), strict=True)], 1
    )
    most = torch.finfo(ratios.dtype).max
    return torch.where(residuals < torch.inf, ratios.clamp_max(most), residuals).amax(1)


def at_steps(trace: list[Tensor], steps: Tensor) -> Tensor:
    """(B, parts) of the residuals (B, parts) after every step those at `steps` (B,), counted from 1; infinite at 0."""
    index = (steps - 1).clamp_min(0)[None, :, None].expand(1, -1, trace[0].shape[1])
    found = torch.stack(trace).gather(0, index)[0]
    return torch.where(steps[:, None] > 0, found, torch.inf)


def check_parts(parts: Sequence[Part], sizes: Sequence[int], names: Sequence[str] | None = None) -> None:
    """ValueError where there is not one part for each leaf of the state."""
    if len(parts) != len(sizes):
        of = f" ({', '.join(names)})" if names else ""
        raise ValueError(
            f"parts must be one for each leaf of the state: it has {len(sizes)}{of}, got {len(parts)} parts"
        )
