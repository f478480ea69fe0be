"""What a solve returns."""

from dataclasses import dataclass

from torch import Tensor

from .tree import Tree


@dataclass(frozen=True)
class Solution:
    """A state with f(z) ≈ z and how well each sample of it satisfies that.

    Attributes:
        value: the state, in the structure of z0: of every sample the finite image f(z) with the lowest residual.
            Under autograd it carries gradients to everything f closes over, as the adjoint defines them.
        trajectory: the states asked for by `record`, exactly as many, each the best of the evaluations up to there
            (what a solve with that many steps returns); a converged sample repeats its last one. A `Phantom` that
            records steps puts theirs before each of them, and before the value.
        residual: (B,) |f(z) - z| (over |f(z)| when relative) at the evaluation that gave `value`; infinite where
            no evaluation was finite.
        steps: (B,) that evaluation, counted from 1; 0 where no evaluation was finite and `value` is z0.
        converged: (B,) whether `residual` reached the tolerance; False everywhere when none was set.
        trace: (evaluations, B) residuals; a sample that has converged or failed repeats its last one.
        nfe: how often f was evaluated before returning, those evaluations that attach gradients included.
    """

    value: Tree
    trajectory: tuple[Tree, ...]
    residual: Tensor
    steps: Tensor
    converged: Tensor
    trace: Tensor
    nfe: int

    def describe(self) -> str:
        """One line for a log: how many samples converged, in how many steps, and how far the others came."""
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
            line += f", {samples - converged} did not in {len(self.trace)}"
        return (
            f"{line}: residual {float(residual.median()):.2e} median, {float(residual.max()):.2e} worst, "
            f"{self.nfe} evaluations"
        )
