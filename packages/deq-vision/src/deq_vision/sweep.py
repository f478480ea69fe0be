"""Metrics after every evaluation of a solve, from one solve a batch."""

from typing import Any

import torch
from torch import Tensor

import deq_core as deq
from deq_core.experiment.tables import Row
from deq_vision.detection.params import Detect
from deq_vision.finite import require_finite
from deq_vision.models.mdeq import MDEQ
from deq_vision.tasks import Scored, tally


class Sweep:
    """Adds up, batch by batch, what the metrics of a task need at each of `steps` evaluations.

    The states are those that solves of so many evaluations return; `stop` gives norm and scale of the residual.
    """

    def __init__(self, task: Scored | Detect, stop: deq.Stop) -> None:
        self.stop = stop
        self.tallies = [tally(task) for _ in range(stop.max_steps)]
        self.residuals: list[Tensor] = []  # (evaluations, B) each

    def add(self, model: MDEQ, batch: Any) -> None:
        """Solves and counts a batch, without gradients.

        Raises:
            NonFiniteError: what the network gives after one of the evaluations is not finite; nothing is counted then.
        """
        assert model.head is not None
        steps = len(self.tallies)
        with torch.no_grad():
            solution = model.solve(model.inject(batch.images), stop=self.stop, record=range(1, steps + 1))
            outputs = [model.head(state) for state in solution.trajectory]
        trace = solution.trace[:steps]
        residuals = torch.cat([trace, trace[-1:].expand(steps - len(trace), -1)])
        for step, (output, residual) in enumerate(zip(outputs, residuals, strict=True), start=1):
            require_finite(output, residual, [f"{name}, after {step} evaluations" for name in batch.names])
        for counted, output in zip(self.tallies, outputs, strict=True):
            counted.add(output, batch)
        self.residuals.append(residuals)

    def rows(self) -> list[Row]:
        """One row (step, metrics, residual) an evaluation, if anything was counted; the residual is a mean."""
        if not self.residuals:
            return []
        means = torch.cat(self.residuals, dim=1).mean(dim=1)
        return [
            {"step": step, **counted.metrics(), "residual": float(residual)}
            for step, (counted, residual) in enumerate(zip(self.tallies, means, strict=True), start=1)
        ]
