"""Evaluation of one model: its metrics, and metric and residual after every evaluation of the solve."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

import deq_core as deq
from deq_core.experiment import distributed
from deq_core.experiment.data.released import located
from deq_core.experiment.files import output_directory, write_json
from deq_core.experiment.rescue import rescued
from deq_core.experiment.tables import Row, numbers, write_rows
from deq_core.experiment.tracking.run import Log
from deq_vision.detection.params import Detect
from deq_vision.finite import require_finite
from deq_vision.models.build import load
from deq_vision.models.mdeq import MDEQ
from deq_vision.params import Evaluate, Windows
from deq_vision.sweep import Sweep
from deq_vision.tasks import Scored, batches_in_order, require_head, tally
from deq_vision.windows import Network, cityscapes_test, padded, resized


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

    def write(self, folder: Path) -> None:
        """Writes the tables, if anything was measured."""
        if self.final.count:
            write_tables(folder, self.metrics(), self.sweep.rows())


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
        logits = resized(model(seen, stop=stop).logits, seen.shape[2:], align_corners=False)
        return logits[:, :, : images.shape[2], : images.shape[3]]

    scores = cityscapes_test(whole, window=config.window, scales=config.scales, mirror=config.mirror)
    # sums of exp of logits: the order stays, and losses have a meaning; one that is 0 by rounding stays a number
    return lambda images: scores(images).clamp_min(torch.finfo(torch.float32).tiny).log()


def exhaustive(config: Evaluate) -> deq.Stop:
    """A stop that spends every evaluation of the sweep."""
    return replace(config.stop.build(), max_steps=config.sweep, tol=None)


def evaluate_model(
    model: Path, task: Scored | Detect, config: Evaluate, *, data: Path, out: Path, log: Log
) -> dict[str, float]:
    """Measures the trained model in the folder `model`; writes steps.csv and metrics.json to `out`.

    Raises:
        NonFiniteError: what it gives for an image is not finite; the tables of the images in the batches before are in
            the folder `out`-partial.
    """
    torch.set_num_threads(config.threads)
    network = load(model).to(distributed.device(config.device))
    found = Evaluation(task, config)
    with rescued(out, found.write):
        metrics, rows = evaluate(network, task, config, located(data), source=model, found=found)
    for row in rows:
        values = {f"{key}_at_step": numbers([row], key)[0] for key in row if key != "step"}
        log(values, int(numbers([row], "step")[0]))
    log(metrics)
    with output_directory(out) as partial:
        write_tables(partial, metrics, rows)
    return metrics


def write_tables(folder: Path, metrics: Mapping[str, float], rows: Sequence[Row]) -> None:
    """Writes metrics.json and, a row an evaluation of the sweep, steps.csv."""
    write_rows(folder / "steps.csv", rows)
    write_json(folder / "metrics.json", metrics)
