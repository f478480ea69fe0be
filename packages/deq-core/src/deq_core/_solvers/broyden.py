"""Broyden's good method, which stores only its steps."""

import math
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from .._solve.modes import in_place
from .base import inner_products, put, put_difference

# Least magnitude of the denominator 1 - a of a step.
_LEAST = 1e-12


@dataclass
class Steps:
    """The steps taken since the last restart.

    Attributes:
        steps: (B, memory, n) z₁ - z₀, z₂ - z₁, ...
        gram: (B, memory, memory) their inner products, float64.
        first: (B, memory) for each step, the first step of the estimate that it belongs to. A sample that restarts
            drops the steps before.
        count: number of rows in use.
        written: whether the next residual is in its row already.
        system: (B, memory, memory) the triangular system of `_newton_step`, one row a step, if it can be kept.
        whole: whether all steps count for all samples, so that `system` holds.
    """

    steps: Tensor
    gram: Tensor
    first: Tensor
    count: int = 0
    written: bool = False
    system: Tensor | None = None
    whole: bool = False


@dataclass(frozen=True)
class Broyden:
    """Broyden's good method for g(z) = f(z) - z = 0, starting from the inverse Jacobian -I.

    With full steps the inverse estimate is a product of rank-one factors that need only the steps (Kelley, Iterative
    Methods for Linear and Nonlinear Equations, SIAM 1995, section 7.3). So memory is one state a step instead of the
    usual two, and a step reads the history twice. Converges superlinearly near a solution, even if f does not contract.

    Attributes:
        memory: maximum number of steps that are kept, at least 1; when it is reached, the estimate restarts from -I.
            `None` keeps all steps of a solve.
    """

    memory: int | None = None
    kind: Literal["broyden"] = field(default="broyden", repr=False, kw_only=True)
    equivariant: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.memory is not None and self.memory < 1:
            raise ValueError(f"memory must be None or at least 1 step, got {self.memory!r}")

    def init(self, z: Tensor, max_steps: int) -> Steps:
        rows, (batch, size) = rows_of(self.memory, max_steps), z.shape
        return Steps(
            steps=z.new_empty(batch, rows, size),
            gram=z.new_zeros(batch, rows, rows, dtype=torch.float64),
            first=z.new_zeros(batch, rows, dtype=torch.long),
            system=z.new_zeros(batch, rows, rows, dtype=torch.float64) if _may_look(z) else None,
        )

    def residual_row(self, state: Steps) -> Tensor | None:
        """The row (B, n) where the next `step` expects f(z) - z; see `Solver`."""
        if state.count == state.steps.shape[1]:
            return None
        state.written = True
        return state.steps[:, state.count]

    def step(self, z: Tensor, fz: Tensor, state: Steps) -> tuple[Tensor, Steps]:
        count = state.count if state.count < state.steps.shape[1] else 0
        # The row of the new step holds the residual until the step is computed.
        steps = state.steps if state.written else put_difference(state.steps, count, z, fz)
        step = steps[:, count]
        whole = state.system is not None
        if count == 0:
            inner = step.new_zeros(step.shape[0], 0, dtype=torch.float64)
            begins = state.first.new_zeros(step.shape[0])
        else:
            seen, system = steps[:, :count], state.system if state.whole else None
            towards = inner_products(step, seen).double()
            weights, scale, inner, begins, whole = _newton_step(
                towards,
                state.gram[:, :count, :count],
                state.first[:, count - 1],
                None if system is None else system[:, :count, :count].contiguous(),  # the layout of `_system`
            )
            weights, scale = weights.to(z.dtype)[:, None], scale.to(z.dtype)
            if in_place():
                step[:, None].baddbmm_(weights, seen).div_(scale[:, :, None])
            else:
                step = torch.baddbmm(step[:, None], weights, seen)[:, 0] / scale
                steps = put(steps, count, step)
        gram, first = (state.gram, state.first) if in_place() else (state.gram.clone(), state.first.clone())
        first[:, count] = begins
        gram[:, count, :count] = inner
        gram[:, :count, count] = inner
        length = torch.linalg.vector_norm(step, dim=1).double().square()
        gram[:, count, count] = length
        if whole and state.system is not None:
            whole = all(found > 0 for found in length.tolist())
            state.system[:, count, :count] = 0 - gram[:, count, 1 : count + 1]
            state.system[:, count, count] = length
        return z + step, Steps(steps, gram, first, count + 1, system=state.system, whole=whole)


def rows_of(memory: int | None, max_steps: int) -> int:
    """Number of steps to keep: no step follows the last evaluation of a solve."""
    rows = max(1, max_steps - 1)
    return rows if memory is None else min(rows, memory)


def _may_look(z: Tensor) -> bool:
    """Whether a solver may read values without waiting for a device, and overwrite its buffers."""
    return in_place() and z.device.type == "cpu"


def _newton_step(
    towards: Tensor, gram: Tensor, first: Tensor, system: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor, bool]:
    """Coefficients of the quasi-Newton step s = (g + Σ weightsⱼ sⱼ) / scale for the residual g = f(z) - z.

    With w₀ = g and wⱼ₊₁ = wⱼ + aⱼ sⱼ₊₁, aⱼ = sⱼ·wⱼ / |sⱼ|², the step is w / (1 - a) for the last w and a. The a solve a
    triangular system in the inner products, so the long vectors are read once for sⱼ·g and once for the sum.

    Args:
        towards: (B, m) sⱼ·g.
        gram: (B, m, m) sᵢ·sⱼ.
        first: (B,) the first step that counts.
        system: (B, m, m) the triangular system if it is known and all steps count.

    Returns:
        weights (B, m), scale (B, 1), the new step's inner products with the earlier ones (B, m), `first`, and whether
        `system` was given and all its steps still count.
    """
    whole, right = system is not None, towards
    if system is None:
        kept = _kept(gram, first)
        system, right = _system(gram, kept), torch.where(kept, towards, 0.0)
    factors = torch.linalg.solve_triangular(system, right[:, :, None], upper=False)[:, :, 0]
    scale, weights = 1 - factors[:, -1:], torch.nn.functional.pad(factors[:, :-1], (1, 0))
    if whole and _sound(scale, weights):
        inner = (towards + torch.bmm(gram, weights[:, :, None])[:, :, 0]) / scale
        return weights, scale, inner, first, True
    # A sample whose update is undefined takes a plain step and restarts its estimate.
    sound = (scale.abs() > _LEAST) & weights.isfinite().all(1, keepdim=True)
    scale, weights = torch.where(sound, scale, 1.0), torch.where(sound, weights, 0.0)
    inner = (towards + torch.bmm(gram, weights[:, :, None])[:, :, 0]) / scale
    begins = torch.where(sound[:, 0], first, gram.shape[1])
    return weights, scale, torch.where(sound, inner, 0.0), begins, False


def _kept(gram: Tensor, first: Tensor) -> Tensor:
    """Steps that count, (B, m): those of the current estimate that are not zero."""
    counts = torch.arange(gram.shape[1], device=gram.device) >= first[:, None]
    return counts & (gram.diagonal(dim1=1, dim2=2) > 0)


def _system(gram: Tensor, kept: Tensor) -> Tensor:
    """The triangular system, (B, m, m), with a = 0 for steps that do not count."""
    later = torch.nn.functional.pad(gram[:, :, 1:], (0, 1))
    system = torch.diag_embed(gram.diagonal(dim1=1, dim2=2)) - later.tril(-1)
    identity = torch.eye(gram.shape[1], dtype=system.dtype, device=system.device)
    return torch.where(kept[:, :, None], system, identity)


def _sound(scale: Tensor, weights: Tensor) -> bool:
    """Whether the update is defined for all samples; reads values on the host."""
    return math.isfinite(weights.sum().item()) and all(abs(found) > _LEAST for found in scale[:, 0].tolist())
