"""How far to go along a step that was proposed."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Trial:
    """A step that has been tried: the length of its result is known. Each entry is one sample's, (B,), float64.

    Attributes:
        start: φ(0) = |f(z) - z|² where the step begins.
        length: of the step tried, as a factor of the one proposed.
        value: φ there.
        count: trials of this step so far, from 1.
    """

    start: Tensor
    length: Tensor
    value: Tensor
    count: Tensor


@dataclass(frozen=True)
class Armijo:
    """Backtracking: a step is shortened until it makes the residual smaller in proportion to its length.

    A trial, one step of the solve, is accepted if φ(α) ≤ (1 - 2 · sufficient · α) φ(0), with φ = |f(z) - z|², whose
    slope along a Newton step is -2 φ(0). The next length minimises the parabola through φ(0), that slope and φ(α),
    within [α / 10, α / 2] (Kelley, Iterative Methods for Linear and Nonlinear Equations, SIAM 1995, chapter 8). A
    sample whose trials are used up takes a plain step, whatever its residual, and begins a new estimate.

    Attributes:
        sufficient: share of the decrease that a linear model promises which is enough, in (0, 0.5).
        trials: how often a step is tried, the full one included.
    """

    sufficient: float = 1e-4
    trials: int = 4
    kind: Literal["armijo"] = field(default="armijo", repr=False, kw_only=True)

    def __post_init__(self) -> None:
        if not 0 < self.sufficient < 0.5:
            raise ValueError(f"sufficient must be above 0 and below 0.5, got {self.sufficient!r}")
        if self.trials < 1:
            raise ValueError(f"trials must be at least 1, got {self.trials!r}")

    def judge(self, trial: Trial) -> tuple[Tensor, Tensor, Tensor]:
        """Whether to accept each sample's trial, the length to try next where not, and whether to give up, (B,)."""
        accepted = trial.value <= (1 - 2 * self.sufficient * trial.length) * trial.start
        # The parabola's minimum; a value that is not above the line has none, and is accepted.
        above = trial.value - (1 - 2 * trial.length) * trial.start
        shorter = trial.start * trial.length.square() / torch.where(accepted, 1.0, above)
        shorter = torch.minimum(torch.maximum(shorter, 0.1 * trial.length), 0.5 * trial.length)
        return accepted, shorter, ~accepted & (trial.count >= self.trials)
