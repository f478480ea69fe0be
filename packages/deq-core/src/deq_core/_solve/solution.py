"""The result of a solve."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from .outcome import Outcome
from .tree import Tree


@dataclass(frozen=True)
class Solution:
    """An approximate solution of z = f(z), with the residual of each sample. A step is one evaluation of f.

    Attributes:
        value: the state, in the structure of z0: for each sample the finite f(z) with the lowest residual. Under
            autograd it carries gradients to everything that f closes over, as the adjoint defines them.
        trajectory: one state for each step in `record`, the one that a solve with that many steps returns. A
            converged sample repeats its last state. A `Phantom` that records steps puts their states before each of
            these, and those that lead to `value` at the end.
        residual: (B,) |f(z) - z|, divided by |f(z)| if relative, at the step that gave `value`; infinite where
            no f(z) was finite. If the stop has parts, the largest ratio of a part's residual to its tolerance.
        steps: (B,) that step, counted from 1; 0 where no f(z) was finite and `value` is z0.
        outcome: how each sample ended, such as converged, out of steps or not finite.
        trace: (steps, B) residuals of all steps; a sample that has converged or failed repeats its last one.
        nfe: number of evaluations of f, including those that attach gradients and that of `check`, but not the backward
            pass.
        parts: (B, parts) residual of each part of the state at that step, by the part's own norm and in its own unit,
            in the order of the leaves. None if the stop has no parts; `part_residuals` measures them then.
        keeps: which state a solve keeps: the best of its steps, or the last, as unrolled networks do.
    """

    value: Tree
    trajectory: tuple[Tree, ...]
    residual: Tensor
    steps: Tensor
    outcome: Outcome
    trace: Tensor
    nfe: int
    parts: Tensor | None = field(default=None, kw_only=True)
    keeps: Literal["best", "last"] = field(default="best", kw_only=True)

    @property
    def converged(self) -> Tensor:
        """(B,) bool: whether `residual` reached the tolerance; False everywhere if there was none."""
        return self.outcome.converged

    def residuals(self, steps: int) -> Tensor:
        """Residual of the state that a solve of 1, 2, ..., `steps` steps returns, (steps, B).

        `trace` has the residual of each step itself, which may be larger than an earlier one. After the end of the
        solve the last residual is repeated.
        """
        trace = self.trace[:steps]
        trace = torch.cat([trace, trace[-1:].expand(steps - len(trace), -1)])
        return trace.where(trace == trace, torch.inf).cummin(dim=0).values if self.keeps == "best" else trace

    def describe(self) -> str:
        """One line for a log: number of converged samples, their steps, how the others ended, and residuals.

        The residuals are those of the samples that have not converged, or of all if all have.
        """
        samples = len(self.residual)
        if samples == 0:
            return f"0 samples, {self.nfe} evaluations"
        converged = int(self.converged.sum())
        line, residual = f"{converged} of {samples} samples converged", self.residual
        if converged:
            steps = self.steps[self.converged]
            lowest, highest = int(steps.min()), int(steps.max())
            line += f" in {highest} steps" if lowest == highest else f" in {lowest} to {highest} steps"
        if converged < samples:
            residual = residual[self.converged.logical_not()]
            line += "".join(f", {count} {word}" for word, count in self.outcome.counts().items() if word != "converged")
        parts = ""
        if self.parts is not None:
            parts = f"by part {', '.join(f'{largest:.2e}' for largest in self.parts.amax(0).tolist())} worst, "
        return (
            f"{line}: residual {float(residual.median()):.2e} median, {float(residual.max()):.2e} worst, {parts}"
            f"{self.nfe} evaluations"
        )
