"""Broyden's method with a line search, which every sample makes for itself."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .base import inner_products
from .line_search import Armijo, Trial


@dataclass(frozen=True)
class Searched:
    """The directions of each sample's estimate, and the step that it is trying.

    Attributes:
        directions: (B, rows, n) the steps proposed, of which `lengths` were taken. The last is being tried.
        lengths: (B, rows) float64.
        gram: (B, rows, rows) inner products of the directions, float64.
        count: (B,) how many rows are in use.
        base, gap: (B, n) z and f(z) - z where the step begins; None before the first evaluation.
        trial: lengths and residuals of the trials; `value` is that of the one before.
        plain: (B,) whether the state being evaluated is accepted in any case.
        evaluations: seen so far.
    """

    directions: Tensor
    lengths: Tensor
    gram: Tensor
    count: Tensor
    base: Tensor | None = None
    gap: Tensor | None = None
    trial: Trial | None = None
    plain: Tensor | None = None
    evaluations: int = 0


def begin(z: Tensor, rows: int) -> Searched:
    """The memory before the first evaluation; rows of it are zero until they are used."""
    batch, size = z.shape
    return Searched(
        directions=z.new_zeros(batch, rows, size),
        lengths=z.new_ones(batch, rows, dtype=torch.float64),
        gram=z.new_zeros(batch, rows, rows, dtype=torch.float64),
        count=z.new_zeros(batch, dtype=torch.long),
    )


def step(z: Tensor, fz: Tensor, state: Searched, search: Armijo) -> tuple[Tensor, Searched]:
    """Judges the trial that led to z: goes on from there, tries a shorter step, or begins again."""
    gap = fz - z
    value = torch.linalg.vector_norm(gap, dim=1).double().square()
    one, zero = torch.ones_like(value), torch.zeros_like(value)
    if state.base is None or state.gap is None or state.trial is None or state.plain is None:
        base, base_gap, trial = z, gap, Trial(value, one, value, zero, value, one)
        accepted, shorter, surrendered = torch.ones_like(value, dtype=torch.bool), one, torch.zeros_like(value).bool()
    else:
        base, base_gap, before = state.base, state.gap, state.trial
        trial = Trial(before.start, before.length, value, before.earlier_length, before.earlier_value, before.count)
        accepted, shorter, surrendered = search.judge(trial)
        accepted, surrendered = accepted | state.plain, surrendered & ~state.plain
    renewed = accepted | surrendered

    # Of an accepted step the length is known; the next one is the estimate's, or plain where that is of no use.
    rows = state.gram.shape[1]
    used = max(1, min(state.evaluations, rows))
    newest = (state.count - 1).clamp_min(0)[:, None]
    lengths = state.lengths.scatter(1, newest, trial.length[:, None])
    known = state.directions[:, :used]
    weights, scale = _newton_step(
        inner_products(gap, known).double(), state.gram[:, :used, :used], lengths[:, :used], state.count
    )
    sound = (scale.abs() > 1e-12) & weights.isfinite().all(1) & (state.count < rows)
    weights, scale = torch.where(sound[:, None], weights, 0.0), torch.where(sound, scale, 1.0)
    ahead = (gap + torch.bmm(weights.to(z.dtype)[:, None], known)[:, 0]) / scale.to(z.dtype)[:, None]
    tried = known.gather(1, newest[:, :, None].expand(-1, -1, z.shape[1]))[:, 0]
    direction = torch.where(accepted[:, None], ahead, torch.where(surrendered[:, None], base_gap, tried))

    row = torch.where(renewed, torch.where(accepted & sound, state.count, 0), newest[:, 0])
    directions, gram = _written(state.directions, state.gram, row, direction, min(state.evaluations + 1, rows))
    lengths = torch.where(renewed[:, None], lengths.scatter(1, row[:, None], 1.0), lengths)
    base = torch.where(accepted[:, None], z, base)
    length = torch.where(renewed, 1.0, shorter)
    start = torch.where(accepted, value, trial.start)
    following = Trial(
        start=start,
        length=length,
        value=value,
        earlier_length=torch.where(renewed, 0.0, trial.length),
        earlier_value=torch.where(renewed, start, value),
        count=torch.where(renewed, 1.0, trial.count + 1),
    )
    base_gap = torch.where(accepted[:, None], gap, base_gap)
    memory = Searched(directions, lengths, gram, row + 1, base, base_gap, following, surrendered, state.evaluations + 1)
    return base + length.to(z.dtype)[:, None] * direction, memory


def _written(directions: Tensor, gram: Tensor, row: Tensor, direction: Tensor, used: int) -> tuple[Tensor, Tensor]:
    """Directions and their inner products with `direction` (B, n) in each sample's `row` (B,); `used` rows matter."""
    index = row[:, None, None]
    directions = directions.scatter(1, index.expand(-1, 1, directions.shape[2]), direction[:, None])
    products = inner_products(direction, directions[:, :used]).double()
    products = torch.nn.functional.pad(products, (0, gram.shape[1] - used))
    gram = gram.scatter(1, index.expand(-1, 1, gram.shape[2]), products[:, None])
    return directions, gram.scatter(2, index.expand(-1, gram.shape[1], 1), products[:, :, None])


def _newton_step(towards: Tensor, gram: Tensor, lengths: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    """How the quasi-Newton direction d = (g + Σ weightsⱼ dⱼ) / scale for the gap g is made.

    After a step of length λⱼ along dⱼ, Broyden's update multiplies the inverse estimate by
    I + (dⱼ₊₁ - (1 - λⱼ) dⱼ) dⱼᵀ / |dⱼ|², which for full steps is the factor of `broyden._newton_step`. So with w₀ = g,
    wⱼ₊₁ = wⱼ + aⱼ (dⱼ₊₁ - (1 - λⱼ) dⱼ) and aⱼ = dⱼ·wⱼ / |dⱼ|² the last w is the direction, in which it occurs itself.

    Args:
        towards: (B, m) dⱼ·g.
        gram: (B, m, m) dᵢ·dⱼ.
        lengths: (B, m) λⱼ.
        count: (B,) how many directions count.

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
