"""Evaluation of a model on a task: its metrics, and metrics and residual after every evaluation of the solve."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

import deq_core as deq
from deq_core.experiment.config.layer import StopConfig
from deq_core.experiment.tables import Row
from deq_vision.detection.params import Detect
from deq_vision.finite import require_finite
from deq_vision.models.mdeq import MDEQ
from deq_vision.tally import tally
from deq_vision.tasks import Scored, batches_in_order, require_head
from deq_vision.windows import Network, cityscapes_test, padded, resized


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Multi-view segmentation: scores are summed over windows, scales and mirroring; see `windows.cityscapes_test`."""

    window: tuple[int, int] = (1024, 2048)
    """Height and width of the sliding windows, pixels; windows lie side by side."""
    scales: tuple[float, ...] = (1.0,)
    mirror: bool = False
    """Whether each window is also seen mirrored."""

    def __post_init__(self) -> None:
        if min(self.window) < 1 or not self.scales or min(self.scales) <= 0:
            raise ValueError(f"windows: expected sides of at least 1, and scales, all positive, got {self}")


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Evaluation settings of trained models."""

    stop: StopConfig
    """Stopping rule of the solve whose result is reported."""
    sweep: int
    """Number of evaluations after each of which metrics and residual are also measured, from one solve."""
    batch_size: int = 50
    split: Literal["train", "val", "test"] = "test"
    """Split to measure: val to choose settings, test once they are chosen, train to see overfitting."""
    windows: Windows | None = None
    """Multi-view segmentation for the reported metrics; None sees each image once and whole, as the sweep does."""
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        if min(self.sweep, self.batch_size, self.threads) < 1:
            raise ValueError(f"evaluate: expected sweep, batch_size and threads of at least 1, got {self}")


class Evaluation:
    """Results of a model, accumulated batch by batch."""

    def __init__(self, task: Scored | Detect, config: Evaluate) -> None:
        self.final = tally(task)
        self.sweep = Sweep(task, exhaustive(config))
        self.residuals: list[Tensor] = []
        self.steps: list[Tensor] = []

    def metrics(self) -> dict[str, float]:
        """Metrics of the reported solve."""
        return {
            **self.final.metrics(),
            "residual": float(torch.cat(self.residuals).mean()),
            "steps": float(torch.cat(self.steps).mean()),
            "samples": self.final.count,
        }

    def tables(self) -> dict[str, list[Row]]:
        """Tables of the metrics (score) and of the sweep (steps); empty if nothing was measured."""
        return {"score": [dict(self.metrics())], "steps": self.sweep.rows()} if self.final.count else {}


def evaluate(
    model: MDEQ,
    task: Scored | Detect,
    config: Evaluate,
    data: Path,
    *,
    source: Path | str = "the model",
    found: Evaluation | None = None,
) -> tuple[dict[str, float], list[Row]]:
    """Returns the metrics of the reported solve, and the sweep: one row (step, metrics, residual) per evaluation.

    The sweep is one solve, whose states are those that a solve of so many evaluations returns. Residual and steps in
    the metrics are those of whole images.

    Args:
        model: model in evaluation mode.
        task: task to measure it on.
        config: evaluation settings.
        data: folder of the data sets.
        source: path or name of the model, for messages.
        found: receives the result of each batch as soon as it is measured; a new one by default.

    Raises:
        LayoutError: the data set is missing or incomplete.
        ConfigError: its number of classes differs from that of the model's head.
        NonFiniteError: an output for an image is not finite.
    """
    found = found or Evaluation(task, config)
    require_head(task, model.size.head, data, config.split, source=source)
    views = None if config.windows is None else several_views(model, config.windows, config.stop.build())
    device = next(model.parameters()).device
    with torch.no_grad():
        for batch in batches_in_order(task, data, config.split, config.batch_size, multiple=model.size.multiple):
            batch = batch.to(device)
            output = model(batch.images, stop=config.stop.build())
            logits = output.logits if views is None else views(batch.images)
            require_finite(logits, output.solution.residual, batch.names)
            found.sweep.add(model, batch)
            found.final.add(logits, batch)
            found.residuals.append(output.solution.residual)
            found.steps.append(output.solution.steps.float())
    return found.metrics(), found.sweep.rows()


def several_views(model: MDEQ, config: Windows, stop: deq.Stop) -> Network:
    """Returns the multi-view network, from images (b, 3, h, w) to logits (b, classes, h, w)."""

    def whole(images: Tensor) -> Tensor:
        seen = padded(images, model.size.multiple)
        logits = resized(model(seen, stop=stop).logits, seen.shape[2:])
        return logits[:, :, : images.shape[2], : images.shape[3]]

    scores = cityscapes_test(whole, window=config.window, scales=config.scales, mirror=config.mirror)
    # The scores are sums of exp(logits). Their log keeps the order of classes and makes losses meaningful; the clamp
    # keeps a score that underflows to 0 finite.
    return lambda images: scores(images).clamp_min(torch.finfo(torch.float32).tiny).log()


def exhaustive(config: Evaluate) -> deq.Stop:
    """A stopping rule that makes every evaluation of the sweep."""
    return replace(config.stop.build(), max_steps=config.sweep, tol=None)


class Sweep:
    """Accumulates the metrics of a task after each evaluation of a solve.

    The states are those that solves of so many evaluations return. `stop` gives the number of evaluations, and norm and
    scale of the residual.
    """

    def __init__(self, task: Scored | Detect, stop: deq.Stop) -> None:
        self.stop = stop
        self.tallies = [tally(task) for _ in range(stop.max_steps)]
        self.residuals: list[Tensor] = []  # each (evaluations, B)

    def add(self, model: MDEQ, batch: Any) -> None:
        """Solves a batch without gradients and adds the result.

        Raises:
            NonFiniteError: an output after one of the evaluations is not finite; nothing is added then.
        """
        assert model.head is not None
        steps = len(self.tallies)
        with torch.no_grad():
            solution = model.solve(model.inject(batch.images), stop=self.stop, record=range(1, steps + 1))
            outputs = [model.head(state) for state in solution.trajectory]
        residuals = solution.residuals(steps)
        for step, (output, residual) in enumerate(zip(outputs, residuals, strict=True), start=1):
            require_finite(output, residual, [f"{name}, after {step} evaluations" for name in batch.names])
        for counted, output in zip(self.tallies, outputs, strict=True):
            counted.add(output, batch)
        self.residuals.append(residuals)

    def rows(self) -> list[Row]:
        """One row (step, metrics, mean residual) per evaluation; empty if nothing was added."""
        if not self.residuals:
            return []
        means = torch.cat(self.residuals, dim=1).mean(dim=1)
        return [
            {"step": step, **counted.metrics(), "residual": float(residual)}
            for step, (counted, residual) in enumerate(zip(self.tallies, means, strict=True), start=1)
        ]
