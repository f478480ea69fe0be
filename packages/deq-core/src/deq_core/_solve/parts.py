"""Residuals and tolerances of the parts of a state."""

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
    """Tolerance and norm of one leaf of a state: `Stop(parts=(Part(1e-3), Part(0.02, relative=False)))`.

    Attributes:
        tol: residual at or below which the part has converged, above 0. `None` measures the part and requires only
            that it is finite.
        relative: whether the residual is |f(z) - z| / |f(z)| of this part rather than |f(z) - z|, in the part's unit.
        norm: (B, n) → (B,), applied to this part of each sample, as in `Stop`: `rms_norm` for a length per element.
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
    """Residual of each part of a state, (B, parts), in the order of the leaves, by one evaluation of f.

    The residual of the whole state hides small parts: that of (hidden, flow) is nearly that of hidden.

        deq.part_residuals(f, solution.value)

    Args:
        f: as in `fixed_point`.
        z: the state, usually a solution.
        parts: one for each leaf, by default relative with `two_norm`. Their tolerances are not used.

    Raises:
        ValueError: the number of parts is not the number of leaves; or for f, as in `fixed_point`.
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
    """Residual of each part, (B, parts).

    Args:
        parts, sizes: the parts and their numbers of columns.
        z, fz: a state and f of it, (B, n).
        look: whether the host may read values.
        scratch: (B, n) buffer for f(z) - z.
    """
    difference = fz - z if scratch is None else torch.sub(fz, z, out=scratch)
    residuals = []
    for part, own, of_fz in zip(parts, difference.split(sizes, 1), fz.split(sizes, 1), strict=True):
        length = of_rows(part.norm, own, look=look)
        residuals.append(length.over(of_rows(part.norm, of_fz, look=look)) if part.relative else length.bounded())
    return torch.stack(residuals, dim=1)


def worst(parts: Sequence[Part], residuals: Tensor) -> Tensor:
    """Largest ratio of the residuals (B, parts) to their tolerances, (B,); finite where all residuals are."""
    ratios = torch.stack(
        [one / (part.tol or math.inf) for part, one in zip(parts, residuals.unbind(1), strict=True)], 1
    )
    most = torch.finfo(ratios.dtype).max
    return torch.where(residuals < torch.inf, ratios.clamp_max(most), residuals).amax(1)


def at_steps(trace: list[Tensor], steps: Tensor) -> Tensor:
    """Residuals of the parts at each sample's step, (B, parts); infinite at step 0.

    Args:
        trace: residuals (B, parts) of all steps.
        steps: (B,), counted from 1.
    """
    index = (steps - 1).clamp_min(0)[None, :, None].expand(1, -1, trace[0].shape[1])
    found = torch.stack(trace).gather(0, index)[0]
    return torch.where(steps[:, None] > 0, found, torch.inf)


def check_parts(parts: Sequence[Part], sizes: Sequence[int], names: Sequence[str] | None = None) -> None:
    """Raises ValueError unless there is one part for each leaf of the state."""
    if len(parts) != len(sizes):
        of = f" ({', '.join(names)})" if names else ""
        raise ValueError(
            f"parts must be one for each leaf of the state: it has {len(sizes)}{of}, got {len(parts)} parts"
        )
