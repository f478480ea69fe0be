"""Anderson acceleration of the first type."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from .._solve.modes import in_place
from .base import inner_products, put_difference, solved


@dataclass
class Differences:
    """The last changes of the state and of the residual, in a ring buffer.

    Attributes:
        steps: (B, window, n) changes of z.
        changes: (B, window, n) changes of the residual g = f(z) - z.
        cross: (B, window, window) stepᵢ · changeⱼ, float64.
        z, residual: the last state and its f(z) - z; None before the first step.
        count: number of changes so far.
    """

    steps: Tensor
    changes: Tensor
    cross: Tensor
    z: Tensor | None = None
    residual: Tensor | None = None
    count: int = 0


@dataclass(frozen=True)
class TypeOneAnderson:
    """Anderson acceleration (type I): a quasi-Newton step with a least-change update of the Jacobian, not its inverse.

    z ← f(z) - (S + Y) γ with (Sᵀ Y) γ = Sᵀ g, for the last steps S and changes of the residual Y (Fang & Saad, Numer.
    Linear Algebra Appl. 2009; Zhang, O'Donoghue & Boyd, SIAM J. Optim. 2020). Often takes fewer steps than type II if f
    is nonlinear or expands, but is less steady; see `Safeguarded`.

    Attributes:
        window: number of changes that are used, at least 1; memory is 2 · window + 2 states.
        ridge: Tikhonov regularisation of the small system, relative to the norms of its rows and columns; at least 0.
    """

    window: int = 5
    ridge: float = 1e-12
    kind: Literal["type_one_anderson"] = field(default="type_one_anderson", repr=False, kw_only=True)
    equivariant: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.window < 1:
            raise ValueError(f"window must be at least 1 change, got {self.window!r}")
        if not self.ridge >= 0:
            raise ValueError(f"ridge must be at least 0, got {self.ridge!r}")

    def init(self, z: Tensor, max_steps: int) -> Differences:
        window = max(1, min(self.window, max_steps - 2))
        batch, size = z.shape
        return Differences(
            steps=z.new_empty(batch, window, size),
            changes=z.new_empty(batch, window, size),
            cross=z.new_zeros(batch, window, window, dtype=torch.float64),
        )

    def step(self, z: Tensor, fz: Tensor, state: Differences) -> tuple[Tensor, Differences]:
        residual = fz - z
        if state.z is None or state.residual is None:
            return fz, Differences(state.steps, state.changes, state.cross, z, residual)
        window = state.cross.shape[1]
        slot, filled = state.count % window, min(state.count + 1, window)
        steps = put_difference(state.steps, slot, state.z, z)
        changes = put_difference(state.changes, slot, state.residual, residual)
        cross = state.cross if in_place() else state.cross.clone()
        cross[:, slot, :filled] = inner_products(steps[:, slot], changes[:, :filled]).double()
        cross[:, :filled, slot] = inner_products(changes[:, slot], steps[:, :filled]).double()
        right = inner_products(residual, steps[:, :filled]).double()
        weights = _solve(cross[:, :filled, :filled], right, self.ridge).to(z.dtype)[:, None]
        proposal = fz - torch.bmm(weights, steps[:, :filled])[:, 0] - torch.bmm(weights, changes[:, :filled])[:, 0]
        return proposal, Differences(steps, changes, cross, z, residual, state.count + 1)


def _solve(cross: Tensor, right: Tensor, ridge: float) -> Tensor:
    """γ with (Sᵀ Y) γ ≈ Sᵀ g, (B, m); zero, a plain iteration, for samples whose system cannot be solved."""
    rows = torch.linalg.vector_norm(cross, dim=2).clamp_min(1e-100)
    system, right = cross / rows[:, :, None], right / rows
    columns = torch.linalg.vector_norm(system, dim=1).clamp_min(1e-100)
    system = system / columns[:, None, :]
    identity = torch.eye(system.shape[1], dtype=system.dtype, device=system.device)
    normal = system.mT @ system + ridge * identity
    solution, regular = solved(normal, (system.mT @ right[:, :, None])[:, :, 0])
    solution = solution / columns
    return torch.where(regular & solution.isfinite().all(1, keepdim=True), solution, 0.0)
