"""Anderson acceleration that falls back to plain iteration when the residual grows."""

from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from .._solve.norms import two_norm
from .anderson import Anderson
from .type_one_anderson import TypeOneAnderson


@dataclass
class Anchor:
    """The last accepted step, to go back to.

    Attributes:
        inner: memory of the wrapped solver.
        fz: (B, n) f(z) at the last accepted step.
        length: (B,) |f(z) - z| there.
        plain: (B,) whether the state under evaluation is that f(z), which is always accepted.
    """

    inner: Any
    fz: Tensor
    length: Tensor
    plain: Tensor


@dataclass(frozen=True)
class Safeguarded:
    """Anderson acceleration that falls back to plain iteration, for each sample on its own, when the residual grows.

    A state z' whose residual |f(z') - z'| exceeds `growth` times that of the last accepted state z is rejected, and the
    next state is f(z); the rejected state stays in the history. So if f contracts, every rejection is followed by a
    step of plain iteration, which reduces the residual (the idea of Zhang, O'Donoghue & Boyd, SIAM J. Optim. 2020,
    without their restarts). A rejection costs one step.

    Attributes:
        solver: the acceleration. Not Broyden's method, whose memory assumes that all its steps are taken.
        growth: maximum ratio of the norm of a residual f(z) - z to that of the last accepted one, above 0.
    """

    solver: Anderson | TypeOneAnderson = Anderson()  # noqa: RUF009  frozen
    growth: float = 1.0
    kind: Literal["safeguarded"] = field(default="safeguarded", repr=False, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.solver, Anderson | TypeOneAnderson):
            raise TypeError(f"solver must be Anderson(...) or TypeOneAnderson(...), got {self.solver!r}")
        if not self.growth > 0:
            raise ValueError(f"growth must be above 0, got {self.growth!r}")

    @property
    def equivariant(self) -> bool:
        """Whether the steps scale with the state; see `Solver`."""
        return self.solver.equivariant

    def init(self, z: Tensor, max_steps: int) -> Anchor:
        batch = len(z)
        return Anchor(
            inner=self.solver.init(z, max_steps),
            fz=z,
            length=z.new_full((batch,), torch.inf),
            plain=torch.ones(batch, dtype=torch.bool, device=z.device),
        )

    def step(self, z: Tensor, fz: Tensor, state: Anchor) -> tuple[Tensor, Anchor]:
        proposal, inner = self.solver.step(z, fz, state.inner)
        length = two_norm((fz - z).detach())
        accepted = state.plain | (length <= self.growth * state.length)
        fz = torch.where(accepted[:, None], fz, state.fz)
        proposal = torch.where(accepted[:, None], proposal, fz)
        return proposal, Anchor(inner, fz, torch.where(accepted, length, state.length), ~accepted)
