"""Broyden's good method, storing steps only."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from .base import writable


@dataclass
class Steps:
    """The steps taken since the last restart.

    Attributes:
        steps: (B, memory, n) z₁ - z₀, z₂ - z₁, ...
        gram: (B, memory, memory) their inner products, float64.
        first: (B,) the first step that counts for a sample: earlier ones belong to an estimate it gave up.
        count: how many rows are in use.
    """

    steps: Tensor
    gram: Tensor
    first: Tensor
    count: int = 0


@dataclass(frozen=True)
class Broyden:
    """Broyden's good method on g(z) = f(z) - z, from the inverse Jacobian -I.

    With full steps the inverse estimate is a product of rank-one factors made of the steps alone
    (Kelley, Iterative Methods for Linear and Nonlinear Equations, SIAM 1995, eq. 7.13), so memory is one state a
    step, half of the usual pairs; a step reads the history twice. Converges superlinearly near a solution, also
    where f does not contract.

    Attributes:
        memory: how many steps are kept; when they are full the estimate starts again from -I.
            `None` keeps all of a solve.
    """

    memory: int | None = None
    kind: Literal["broyden"] = field(default="broyden", repr=False, kw_only=True)

    def __post_init__(self) -> None:
        if self.memory is not None and self.memory < 1:
            raise ValueError(f"memory must be None or at least 1 step, got {self.memory!r}")

    def init(self, z: Tensor, max_steps: int) -> Steps:
        # The last evaluation of a solve takes no step.
        rows = max(1, max_steps - 1)
        rows = rows if self.memory is None else min(rows, self.memory)
        batch, size = z.shape
        return Steps(
            steps=z.new_empty(batch, rows, size),
            gram=z.new_zeros(batch, rows, rows, dtype=torch.float64),
            first=z.new_zeros(batch, dtype=torch.long),
        )

    def step(self, z: Tensor, fz: Tensor, state: Steps) -> tuple[Tensor, Steps]:
        count = state.count if state.count < state.steps.shape[1] else 0
        first = state.first if count else torch.zeros_like(state.first)
        gap = fz - z
        if count == 0:
            step, inner = gap, gap.new_zeros(len(gap), 0, dtype=torch.float64)
        else:
            step, inner, first = _newton_step(gap, state.steps[:, :count], state.gram[:, :count, :count], first)
        steps, gram = writable(state.steps), writable(state.gram)
        steps[:, count] = step
        gram[:, count, :count] = inner
        gram[:, :count, count] = inner
        gram[:, count, count] = torch.linalg.vector_norm(step, dim=1).double().square()
        return z + step, Steps(steps, gram, first, count + 1)


def _newton_step(gap: Tensor, steps: Tensor, gram: Tensor, first: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The quasi-Newton step for the gap g = f(z) - z, its inner products with the earlier steps, and `first`.

    With w₀ = g and wⱼ₊₁ = wⱼ + aⱼ sⱼ₊₁, aⱼ = sⱼ·wⱼ / |sⱼ|², the step is w / (1 - a) for the last w and a. The a are
    the solution of a triangular system in the inner products, so the long vectors are read once for sⱼ·g and once
    for the sum.
    """
    count = steps.shape[1]
    towards = torch.bmm(steps, gap[:, :, None])[:, :, 0].double()
    later = torch.nn.functional.pad(gram[:, :, 1:], (0, 1))
    system = torch.diag_embed(gram.diagonal(dim1=1, dim2=2)) - later.tril(-1)
    # An abandoned row becomes a = 0, and so does a step of no length.
    kept = (torch.arange(count, device=gap.device) >= first[:, None]) & (gram.diagonal(dim1=1, dim2=2) > 0)
    identity = torch.eye(count, dtype=system.dtype, device=system.device)
    system = torch.where(kept[:, :, None], system, identity)
    right = torch.where(kept, towards, 0.0)
    factors = torch.linalg.solve_triangular(system, right[:, :, None], upper=False)[:, :, 0]
    # Where the update is undefined the sample takes a plain step and begins a new estimate.
    scale = 1 - factors[:, -1:]
    sound = scale.abs() > 1e-12
    scale = torch.where(sound, scale, 1.0)
    weights = torch.nn.functional.pad(factors[:, :-1], (1, 0)) / scale
    step = gap / scale.to(gap.dtype) + torch.bmm(weights[:, None].to(gap.dtype), steps)[:, 0]
    inner = towards / scale + torch.bmm(gram, weights[:, :, None])[:, :, 0]
    sound = sound & weights.isfinite().all(1, keepdim=True)
    step = torch.where(sound, step, gap)
    inner = torch.where(sound, inner, 0.0)
    return step, inner, torch.where(sound[:, 0], first, count)
