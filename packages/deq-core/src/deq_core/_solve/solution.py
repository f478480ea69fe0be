"""What a solve returns."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from .outcome import Outcome
from .tree import Tree


@dataclass(frozen=True)
class Solution:
    """A state with f(z) ≈ z, and how well each sample of it satisfies that. A step is one evaluation of f.

    Attributes:
        value: the state, in the structure of z0: of every sample the finite f(z) with the lowest residual.
            Under autograd it carries gradients to everything f closes over, as the adjoint defines them.
        trajectory: the states asked for by `record`, exactly as many, each the best of the steps up to there
            (what a solve with that many steps returns); a converged sample repeats its last one. A `Phantom` that
            records steps puts theirs before each of them, and before the value.
        residual: (B,) |f(z) - z| (over |f(z)| when relative) at the step that gave `value`; infinite where
            no f(z) was finite. Where the stop has parts, the largest of theirs over its tolerance.
        steps: (B,) that step, counted from 1; 0 where no f(z) was finite and `value` is z0.
        outcome: how each sample ended: converged, out of steps, not finite.
        trace: (steps, B) residuals; a sample that has converged or failed repeats its last one.
        nfe: evaluations of f before returning, those that attach gradients included.
        parts: (B, parts) the residual of every part of the state at that step, by its own norm and in its own unit, in
            the order of the state's leaves. None where the stop has no parts: `part_residuals` measures a solution.
        keeps: of the steps up to one, the state that is kept: the best, or the last as unrolled networks do.
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
        """(B,) bool: whether `residual` reached the tolerance; False everywhere when none was set."""
        return self.outcome.converged

    def residuals(self, steps: int) -> Tensor:
        """(steps, B): the residual of the state that is kept after each of so many steps.

        In `trace` a residual is that of the step itself, be it better than those before or not. Once all samples have
        ended the last one stays.
        """
        trace = self.trace[:steps]
        trace = torch.cat([trace, trace[-1:].expand(steps - len(trace), -1)])
        return trace.where(trace == trace, torch.inf).cummin(dim=0).values if self.keeps == "best" else trace

    def describe(self) -> str:
        """One line for a log: how many samples converged, in how many steps, and how the others ended."""
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
