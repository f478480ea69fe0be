"""Broyden's good method with a line search."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from .base import inner_products
from .broyden import rows_of
from .line_search import Armijo, Trial


@dataclass(frozen=True)
class Searched:
    """The directions of each sample's inverse estimate, and its current trial.

    Attributes:
        directions: (B, rows, n) proposed steps; the last one is being tried.
        lengths: (B, rows) share of each direction that was taken, float64.
        gram: (B, rows, rows) inner products of the directions, float64.
        count: (B,) number of rows in use.
        base, residual: (B, n) z and f(z) - z where the step begins; None before the first step.
        trial: the current trial; its `value` is still that of the trial before.
        plain: (B,) whether the trial is a plain step, which is always accepted.
        seen: number of steps of the solve so far.
    """

    directions: Tensor
    lengths: Tensor
    gram: Tensor
    count: Tensor
    base: Tensor | None = None
    residual: Tensor | None = None
    trial: Trial | None = None
    plain: Tensor | None = None
    seen: int = 0


@dataclass(frozen=True)
class LineSearchBroyden:
    """`Broyden` with a line search: steps that increase the residual are shortened, for each sample on its own.

    For starts so far from the solution that full steps diverge. Each trial is one step of the solve, so where full
    steps work, the search can only cost.

    Attributes:
        memory: maximum number of steps that are kept, at least 1; when it is reached, the estimate restarts from -I.
            `None` keeps all steps of a solve. Takes two states more than `Broyden`.
        line_search: acceptance and shortening of steps.
    """

    memory: int | None = None
    line_search: Armijo = Armijo()  # noqa: RUF009  frozen
    kind: Literal["line_search_broyden"] = field(default="line_search_broyden", repr=False, kw_only=True)
    equivariant: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.memory is not None and self.memory < 1:
            raise ValueError(f"memory must be None or at least 1 step, got {self.memory!r}")
        if not isinstance(self.line_search, Armijo):
            raise TypeError(f"line_search must be Armijo(...), got {self.line_search!r}")

    def init(self, z: Tensor, max_steps: int) -> Searched:
        rows, (batch, size) = rows_of(self.memory, max_steps), z.shape
        return Searched(
            directions=z.new_zeros(batch, rows, size),
            lengths=z.new_ones(batch, rows, dtype=torch.float64),
            gram=z.new_zeros(batch, rows, rows, dtype=torch.float64),
            count=z.new_zeros(batch, dtype=torch.long),
        )

    def step(self, z: Tensor, fz: Tensor, state: Searched) -> tuple[Tensor, Searched]:
        residual = fz - z
        value = torch.linalg.vector_norm(residual, dim=1).double().square()
        one = torch.ones_like(value)
        if state.base is None or state.residual is None or state.trial is None or state.plain is None:
            base, base_residual, trial = z, residual, Trial(value, one, value, one)
            accepted, shorter, surrendered = one.bool(), one, torch.zeros_like(one).bool()
        else:
            base, base_residual, before = state.base, state.residual, state.trial
            trial = Trial(before.start, before.length, value, before.count)
            accepted, shorter, surrendered = self.line_search.judge(trial)
            accepted, surrendered = accepted | state.plain, surrendered & ~state.plain
        renewed = accepted | surrendered

        # After an accepted step, whose length is known, the next is that of the estimate, or plain if it is undefined.
        rows = state.gram.shape[1]
        used = max(1, min(state.seen, rows))
        newest = (state.count - 1).clamp_min(0)[:, None]
        lengths = state.lengths.scatter(1, newest, trial.length[:, None])
        known = state.directions[:, :used]
        weights, scale = _newton_step(
            inner_products(residual, known).double(), state.gram[:, :used, :used], lengths[:, :used], state.count
        )
        sound = (scale.abs() > 1e-12) & weights.isfinite().all(1) & (state.count < rows)
        weights, scale = torch.where(sound[:, None], weights, 0.0), torch.where(sound, scale, 1.0)
        ahead = (residual + torch.bmm(weights.to(z.dtype)[:, None], known)[:, 0]) / scale.to(z.dtype)[:, None]
        tried = known.gather(1, newest[:, :, None].expand(-1, -1, z.shape[1]))[:, 0]
        direction = torch.where(accepted[:, None], ahead, torch.where(surrendered[:, None], base_residual, tried))

        row = torch.where(renewed, torch.where(accepted & sound, state.count, 0), newest[:, 0])
        directions, gram = _written(state.directions, state.gram, row, direction, min(state.seen + 1, rows))
        lengths = torch.where(renewed[:, None], lengths.scatter(1, row[:, None], 1.0), lengths)
        base = torch.where(accepted[:, None], z, base)
        length = torch.where(renewed, 1.0, shorter)
        start = torch.where(accepted, value, trial.start)
        following = Trial(start, length, value, count=torch.where(renewed, 1.0, trial.count + 1))
        base_residual = torch.where(accepted[:, None], residual, base_residual)
        memory = Searched(
            directions, lengths, gram, row + 1, base, base_residual, following, surrendered, state.seen + 1
        )
        return base + length.to(z.dtype)[:, None] * direction, memory


def _written(directions: Tensor, gram: Tensor, row: Tensor, direction: Tensor, used: int) -> tuple[Tensor, Tensor]:
    """Directions and Gram matrix with `direction` (B, n) in each sample's `row` (B,); `used` rows are in use."""
    index = row[:, None, None]
    directions = directions.scatter(1, index.expand(-1, 1, directions.shape[2]), direction[:, None])
    products = inner_products(direction, directions[:, :used]).double()
    products = torch.nn.functional.pad(products, (0, gram.shape[1] - used))
    gram = gram.scatter(1, index.expand(-1, 1, gram.shape[2]), products[:, None])
    return directions, gram.scatter(2, index.expand(-1, gram.shape[1], 1), products[:, :, None])


def _newton_step(towards: Tensor, gram: Tensor, lengths: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients of the quasi-Newton direction d = (g + Σ weightsⱼ dⱼ) / scale for the residual g.

    After a step of length λⱼ along dⱼ, Broyden's update multiplies the inverse estimate by
    I + (dⱼ₊₁ - (1 - λⱼ) dⱼ) dⱼᵀ / |dⱼ|², which for full steps is the factor of `broyden._newton_step`. So with w₀ = g,
    wⱼ₊₁ = wⱼ + aⱼ (dⱼ₊₁ - (1 - λⱼ) dⱼ) and aⱼ = dⱼ·wⱼ / |dⱼ|², the last w is the direction d, which is also the last
    dⱼ₊₁ in that sum.

    Args:
        towards: (B, m) dⱼ·g.
        gram: (B, m, m) dᵢ·dⱼ.
        lengths: (B, m) λⱼ.
        count: (B,) number of directions that count.

    Returns:
        weights (B, m) and scale (B,).
    """
    m = gram.shape[1]
    short = 1 - lengths
    later = torch.nn.functional.pad(gram[:, :, 1:], (0, 1)) - short[:, None, :] * gram
    diagonal = gram.diagonal(dim1=1, dim2=2)
    counts = torch.arange(m, device=gram.device) < count[:, None]
    kept = counts & (diagonal > 0)
    identity = torch.eye(m, dtype=gram.dtype, device=gram.device)
    system = torch.where(kept[:, :, None], torch.diag_embed(diagonal) - later.tril(-1), identity)
    right = torch.where(kept, towards, 0.0)
    factors = torch.linalg.solve_triangular(system, right[:, :, None], upper=False)[:, :, 0]
    weights = torch.nn.functional.pad(factors[:, :-1], (1, 0)) - short * factors
    last = factors.gather(1, (count - 1).clamp_min(0)[:, None])[:, 0]
    return torch.where(counts, weights, 0.0), 1 - torch.where(count > 0, last, 0.0)
