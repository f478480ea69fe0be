"""Anderson acceleration."""

import math
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from .._solve.modes import in_place
from .base import check_damping, inner_products, put, put_difference, solved


@dataclass
class History:
    """The last steps, in a ring buffer.

    Attributes:
        values: (B, window, n) f(z).
        residuals: (B, window, n) f(z) - z.
        gram: (B, window, window) inner products of the residuals, float64.
        count: number of steps so far; the newest is in row (count - 1) % window.
        written: whether the next residual is in its row already.
    """

    values: Tensor
    residuals: Tensor
    gram: Tensor
    count: int = 0
    written: bool = False


@dataclass(frozen=True)
class Anderson:
    """Anderson acceleration (type II): the next state is the mixture of the last f(z) with the smallest residual.

    The weights minimise |Σ αᵢ gᵢ|² + ridge · Σ αᵢ² |gᵢ|² subject to Σ αᵢ = 1, for the residuals gᵢ = f(zᵢ) - zᵢ (Walker
    & Ni, SIAM J. Numer. Anal. 2011, with a ridge). The ridge is relative to the norm of each residual, so the method
    keeps its rate down to rounding error. `relative_ridge=False` is the released DEQ code's absolute ridge · Σ αᵢ²,
    which stalls once the residuals are smaller than √ridge.

    Attributes:
        window: number of steps that are mixed, at least 1; memory is 2 · window states.
        ridge: regularisation of the mixing weights, at least 0.
        damping: share of the mixed z, rather than of the mixed f(z), in the next state, in [0, 1). The first step,
            which mixes nothing, is not damped, as in the released code.
        relative_ridge: whether the ridge scales with the residuals.
    """

    window: int = 6
    ridge: float = 1e-7
    damping: float = 0.0
    relative_ridge: bool = True
    kind: Literal["anderson"] = field(default="anderson", repr=False, kw_only=True)

    def __post_init__(self) -> None:
        if self.window < 1:
            raise ValueError(f"window must be at least 1 step, got {self.window!r}")
        if not self.ridge >= 0:
            raise ValueError(f"ridge must be at least 0, got {self.ridge!r}")
        check_damping(self.damping)

    @property
    def equivariant(self) -> bool:
        """Whether the steps scale with the state; see `Solver`."""
        return self.relative_ridge

    def init(self, z: Tensor, max_steps: int) -> History:
        window = min(self.window, max_steps)
        batch, size = z.shape
        return History(
            values=z.new_empty(batch, window, size),
            residuals=z.new_empty(batch, window, size),
            gram=z.new_empty(batch, window, window, dtype=torch.float64),
        )

    def residual_row(self, state: History) -> Tensor:
        """The row (B, n) where the next `step` expects f(z) - z; see `Solver`."""
        state.written = True
        return state.residuals[:, state.count % state.residuals.shape[1]]

    def step(self, z: Tensor, fz: Tensor, state: History) -> tuple[Tensor, History]:
        window = state.gram.shape[1]
        slot, filled = state.count % window, min(state.count + 1, window)
        values = put(state.values, slot, fz)
        residuals = state.residuals if state.written else put_difference(state.residuals, slot, z, fz)
        seen, seen_residuals = (values, residuals) if filled == window else (values[:, :filled], residuals[:, :filled])
        row = inner_products(residuals[:, slot], seen_residuals)
        gram = state.gram if in_place() else state.gram.clone()
        gram[:, slot, :filled] = row
        gram[:, :filled, slot] = row
        weights = mixing_weights(gram[:, :filled, :filled], self.ridge, self.relative_ridge, newest=slot)
        weights = weights.to(z.dtype).unsqueeze(1)
        mixed = torch.bmm(weights, seen).squeeze(1)
        if self.damping and state.count:
            mixed = mixed - self.damping * torch.bmm(weights, seen_residuals).squeeze(1)
        return mixed, History(values, residuals, gram, state.count + 1)


def mixing_weights(gram: Tensor, ridge: float, relative: bool, newest: int) -> Tensor:
    """The weights α of `Anderson`, (B, m).

    If the system of a sample cannot be solved, its newest f(z) gets weight 1: a plain iteration.

    Args:
        gram: (B, m, m) inner products gᵢ · gⱼ, float64.
        ridge: regularisation; see `Anderson`.
        relative: whether the ridge scales with each |gᵢ|².
        newest: row of the newest step.
    """
    if relative:
        # With D = diag(|g|), (K + ridge D²) α ∝ 1 is solved as D⁻¹ (D⁻¹ K D⁻¹ + ridge I)⁻¹ D⁻¹ 1.
        inverse = gram.diagonal(dim1=1, dim2=2).clamp_min(1e-60).rsqrt()
        system = gram * (inverse.unsqueeze(2) * inverse.unsqueeze(1))
        system.diagonal(dim1=1, dim2=2).add_(ridge)
        solution, regular = solved(system, inverse)
        weights = inverse * solution
    else:
        system = gram + ridge * torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
        weights, regular = solved(system, torch.ones_like(system[:, 0]))
    weights = weights / weights.sum(1, keepdim=True)
    if in_place() and gram.device.type == "cpu" and math.isfinite(weights.sum().item()):
        return weights
    plain = torch.zeros_like(weights)
    plain[:, newest] = 1
    return torch.where(regular & weights.isfinite().all(1, keepdim=True), weights, plain)
