"""Line search: how far to go along a proposed step."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor


@dataclass(frozen=True)
class Trial:
    """A step that has been tried, with its result. All are (B,), float64.

    Attributes:
        start: φ(0) = |f(z) - z|² where the step begins.
        length: length α of the trial, as a share of the proposed step.
        value: φ(α) there.
        count: number of trials of this step so far, counted from 1.
    """

    start: Tensor
    length: Tensor
    value: Tensor
    count: Tensor


@dataclass(frozen=True)
class Armijo:
    """Backtracking: a step is shortened until it reduces the residual in proportion to its length.

    A trial, which is one step of the solve, is accepted if φ(α) ≤ (1 - 2 · sufficient · α) φ(0), with φ = |f(z) - z|²,
    whose slope along a Newton step is -2 φ(0). The next length minimises the parabola with φ(0), that slope and φ(α),
    within [α / 10, α / 2] (Kelley, Iterative Methods for Linear and Nonlinear Equations, SIAM 1995, chapter 8). After
    the last trial a sample takes a plain step, whatever its residual, and restarts its estimate.

    Attributes:
        sufficient: required share of the decrease that the linear model predicts, in (0, 0.5).
        trials: maximum number of trials of a step, including the full step; at least 1.
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
        """For each sample whether to accept the trial, the length to try next if not, and whether to give up, (B,)."""
        accepted = trial.value <= (1 - 2 * self.sufficient * trial.length) * trial.start
        # The minimum of the parabola. It has none if the value is not above the tangent, which is accepted.
        above = trial.value - (1 - 2 * trial.length) * trial.start
        shorter = trial.start * trial.length.square() / torch.where(accepted, 1.0, above)
        shorter = torch.minimum(torch.maximum(shorter, 0.1 * trial.length), 0.5 * trial.length)
        return accepted, shorter, ~accepted & (trial.count >= self.trials)
