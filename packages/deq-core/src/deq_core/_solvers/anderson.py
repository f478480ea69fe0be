"""Anderson acceleration."""

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from .._solve.modes import in_place
from .base import check_damping, inner_products, put, put_gap


@dataclass
class History:
    """The last evaluations, in a ring.

    Attributes:
        images: (B, window, n) f(z).
        gaps: (B, window, n) f(z) - z.
        gram: (B, window, window) inner products of the gaps, float64.
        count: evaluations seen; the newest lies in row (count - 1) % window.
        given: whether the next gap lies in its row already.
    """

    images: Tensor
    gaps: Tensor
    gram: Tensor
    count: int = 0
    given: bool = False


@dataclass(frozen=True)
class Anderson:
    """Anderson acceleration (type II): the next state mixes the last images so that their gaps f(z) - z cancel best.

    The weights minimise |Σ αᵢ gᵢ|² + ridge · Σ αᵢ² |gᵢ|² subject to Σ αᵢ = 1 (Walker & Ni, SIAM J. Numer. Anal. 2011,
    with a ridge). The ridge is relative to each gap's own length, so the method keeps its rate down to
    rounding; `relative_ridge=False` is the released DEQ code's absolute ridge · Σ αᵢ², which stalls once the gaps
    are shorter than √ridge.

    Attributes:
        window: how many evaluations are mixed; memory is 2 · window states.
        ridge: regularisation of the mixing weights.
        damping: share of the mixed states, rather than their images, in the result, in [0, 1). The first step, which
            mixes nothing, is not damped, as in the released code.
        relative_ridge: whether the ridge scales with the gaps.
    """

    window: int = 6
    ridge: float = 1e-7
    damping: float = 0.0
    relative_ridge: bool = True
    kind: Literal["anderson"] = field(default="anderson", repr=False, kw_only=True)

    def __post_init__(self) -> None:
        if self.window < 1:
            raise ValueError(f"window must be at least 1 evaluation, got {self.window!r}")
        if not self.ridge >= 0:
            raise ValueError(f"ridge must be at least 0, got {self.ridge!r}")
        check_damping(self.damping)

    @property
    def equivariant(self) -> bool:
        """Whether the steps grow with the state; see `Solver`."""
        return self.relative_ridge

    def init(self, z: Tensor, max_steps: int) -> History:
        window = min(self.window, max_steps)
        batch, size = z.shape
        return History(
            images=z.new_empty(batch, window, size),
            gaps=z.new_empty(batch, window, size),
            gram=z.new_empty(batch, window, window, dtype=torch.float64),
        )

    def gap_row(self, state: History) -> Tensor:
        """(B, n) where the next `step` looks for f(z) - z; see `Solver`."""
        state.given = True
        return state.gaps[:, state.count % state.gaps.shape[1]]

    def step(self, z: Tensor, fz: Tensor, state: History) -> tuple[Tensor, History]:
        window = state.gram.shape[1]
        slot, filled = state.count % window, min(state.count + 1, window)
        images = put(state.images, slot, fz)
        gaps = state.gaps if state.given else put_gap(state.gaps, slot, z, fz)
        seen, seen_gaps = (images, gaps) if filled == window else (images[:, :filled], gaps[:, :filled])
        row = inner_products(gaps[:, slot], seen_gaps)
        gram = state.gram if in_place() else state.gram.clone()
        gram[:, slot, :filled] = row
        gram[:, :filled, slot] = row
        weights = mixing_weights(gram[:, :filled, :filled], self.ridge, self.relative_ridge, newest=slot)
        weights = weights.to(z.dtype).unsqueeze(1)
        mixed = torch.bmm(weights, seen).squeeze(1)
        if self.damping and state.count:
            mixed = mixed - self.damping * torch.bmm(weights, seen_gaps).squeeze(1)
        return mixed, History(images, gaps, gram, state.count + 1)


def mixing_weights(gram: Tensor, ridge: float, relative: bool, newest: int) -> Tensor:
    """Weights α that sum to 1 and make Σ αᵢ gᵢ short, (B, m).

    A sample whose system cannot be solved gets weight 1 on the newest image: a plain iteration.

    Args:
        gram: (B, m, m) inner products gᵢ · gⱼ, float64.
        ridge: regularisation; see `Anderson`.
        relative: whether the ridge scales with each |gᵢ|².
        newest: the row of the newest evaluation.
    """
    if relative:
        # With D = diag(|g|), (K + ridge D²) α ∝ 1 is solved as D⁻¹ (D⁻¹ K D⁻¹ + ridge I)⁻¹ D⁻¹ 1.
        inverse = gram.diagonal(dim1=1, dim2=2).clamp_min(1e-60).rsqrt()
        system = gram * (inverse.unsqueeze(2) * inverse.unsqueeze(1))
        system.diagonal(dim1=1, dim2=2).add_(ridge)
        weights = inverse * torch.linalg.solve_ex(system, inverse).result
    else:
        system = gram + ridge * torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
        weights = torch.linalg.solve_ex(system, torch.ones_like(system[:, 0])).result
    weights = weights / weights.sum(1, keepdim=True)
    if in_place() and gram.device.type == "cpu" and math.isfinite(weights.sum().item()):
        return weights
    plain = torch.zeros_like(weights)
    plain[:, newest] = 1
    solved = weights.isfinite().all(1, keepdim=True)
    return torch.where(solved, weights, plain)
