"""How well a model does a task: its metrics, and metric and residual after every evaluation of the solve."""

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
    """Segmentation of an image from several views, whose scores are added up; see `windows.cityscapes_test`."""

    window: tuple[int, int] = (1024, 2048)
    """(h, w) of the windows that slide over it side by side, pixels."""
    scales: tuple[float, ...] = (1.0,)
    mirror: bool = False
    """Whether each window is seen mirrored too."""

    def __post_init__(self) -> None:
        if min(self.window) < 1 or not self.scales or min(self.scales) <= 0:
            raise ValueError(f"windows: expected sides of at least 1, and scales, all positive, got {self}")


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """How trained models are measured."""

    stop: StopConfig
    """Stop of the solve whose result is reported."""
    sweep: int
    """Metric and residual are also measured after each evaluation up to this one, from one solve."""
    batch_size: int = 50
    split: Literal["train", "val", "test"] = "test"
    """Settings are chosen on val; test is measured once they are. On train one sees how much is learnt by heart."""
    windows: Windows | None = None
    """Of segmentation: how an image is seen for the metrics reported; None is once and whole. The sweep always is."""
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        if min(self.sweep, self.batch_size, self.threads) < 1:
            raise ValueError(f"evaluate: expected sweep, batch_size and threads of at least 1, got {self}")


class Evaluation:
    """What was measured of a model, batch by batch."""

    def __init__(self, task: Scored | Detect, config: Evaluate) -> None:
        self.final = tally(task)
        self.sweep = Sweep(task, exhaustive(config))
        self.residuals: list[Tensor] = []
        self.steps: list[Tensor] = []

    def metrics(self) -> dict[str, float]:
        """Of the reported solve."""
        return {
            **self.final.metrics(),
            "residual": float(torch.cat(self.residuals).mean()),
            "steps": float(torch.cat(self.steps).mean()),
            "samples": self.final.count,
        }

    def tables(self) -> dict[str, list[Row]]:
        """A row of metrics, and the sweep, if anything was measured."""
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
    """Metrics of the reported solve, and one row (step, metrics, residual) an evaluation, of the same split.

    The sweep is one solve: its states are those that a solve of so many evaluations returns. Residual and steps of the
    metrics are those of whole images.

    Args:
        model: in evaluation mode.
        task: what it is measured for.
        config: how.
        data: folder of the data sets.
        source: where the model is from, for messages.
        found: receives what each batch gave as soon as it is measured; a new one by default.

    Raises:
        LayoutError: the data set is not there or not complete.
        ConfigError: it has another number of classes than the model's head.
        NonFiniteError: what the model gives for an image is not finite.
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
    """Logits (b, classes, h, w) of images (b, 3, h, w) from windows, sizes and mirror images."""

    def whole(images: Tensor) -> Tensor:
        seen = padded(images, model.size.multiple)
        logits = resized(model(seen, stop=stop).logits, seen.shape[2:])
        return logits[:, :, : images.shape[2], : images.shape[3]]

    scores = cityscapes_test(whole, window=config.window, scales=config.scales, mirror=config.mirror)
    # sums of exp of logits: the order stays, and losses have a meaning; one that is 0 by rounding stays a number
    return lambda images: scores(images).clamp_min(torch.finfo(torch.float32).tiny).log()


def exhaustive(config: Evaluate) -> deq.Stop:
    """A stop that spends every evaluation of the sweep."""
    return replace(config.stop.build(), max_steps=config.sweep, tol=None)


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
        residuals = solution.residuals(steps)
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
