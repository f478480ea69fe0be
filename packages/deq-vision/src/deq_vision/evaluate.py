"""Evaluation of one model: its metrics, and metric and residual after every evaluation of the solve."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

import deq_core as deq
from deq_core.experiment import distributed
from deq_core.experiment.files import output_directory, write_json
from deq_core.experiment.released import located
from deq_core.experiment.results import Row, numbers, write_rows
from deq_core.experiment.tracking import Log
from deq_vision.detect_params import Detect
from deq_vision.models.build import load
from deq_vision.models.mdeq import MDEQ
from deq_vision.params import Evaluate, Windows
from deq_vision.stream import padded
from deq_vision.sweep import Sweep
from deq_vision.tasks import Scored, batches_in_order, require_head, tally
from deq_vision.windows import Network, cityscapes_test, resized


def evaluate(
    model: MDEQ, task: Scored | Detect, config: Evaluate, data: Path, *, source: Path | str = "the model"
) -> tuple[dict[str, float], list[Row]]:
    """Metrics of the reported solve, and one row (step, metrics, residual) an evaluation, of the same split.

    The sweep is one solve: its states are those that a solve of so many evaluations returns. Residual and steps of the
    metrics are those of whole images. `source` is where the model is from, for messages.

    Raises:
        LayoutError: the data set is not there or not complete.
        ConfigError: it has another number of classes than the model's head.
    """
    require_head(task, model.size.head, data, config.split, source=source)
    views = None if config.windows is None else several_views(model, config.windows, config.stop.build())
    final = tally(task)
    sweep = Sweep(task, exhaustive(config))
    solved: list[Tensor] = []
    steps: list[Tensor] = []
    device = next(model.parameters()).device
    with torch.no_grad():
        for batch in batches_in_order(task, data, config.split, config.batch_size, multiple=model.size.multiple):
            batch = batch.to(device)
            output = model(batch.images, stop=config.stop.build())
            final.add(output.logits if views is None else views(batch.images), batch)
            solved.append(output.solution.residual)
            steps.append(output.solution.steps.float())
            sweep.add(model, batch)
    metrics = {
        **final.metrics(),
        "residual": float(torch.cat(solved).mean()),
        "steps": float(torch.cat(steps).mean()),
        "samples": final.count,
    }
    return metrics, sweep.rows()


def several_views(model: MDEQ, config: Windows, stop: deq.Stop) -> Network:
    """Logits (b, classes, h, w) of images (b, 3, h, w) from windows, sizes and mirror images."""

    def whole(images: Tensor) -> Tensor:
        seen = padded(images, model.size.multiple)
        logits = resized(model(seen, stop=stop).logits, seen.shape[2:], align_corners=False)
        return logits[:, :, : images.shape[2], : images.shape[3]]

    scores = cityscapes_test(whole, window=config.window, scales=config.scales, mirror=config.mirror)
    return lambda images: scores(images).log()  # sums of exp of logits: the order stays, and losses have a meaning


def exhaustive(config: Evaluate) -> deq.Stop:
    """A stop that spends every evaluation of the sweep."""
    return replace(config.stop.build(), max_steps=config.sweep, tol=None)


def evaluate_model(
    model: Path, task: Scored | Detect, config: Evaluate, *, data: Path, out: Path, log: Log
) -> dict[str, float]:
    """Measures the trained model in the folder `model`; writes steps.csv and metrics.json to `out`."""
    torch.set_num_threads(config.threads)
    network = load(model).to(distributed.device(config.device))
    metrics, rows = evaluate(network, task, config, located(data), source=model)
    for row in rows:
        values = {f"{key}_at_step": numbers([row], key)[0] for key in row if key != "step"}
        log(values, int(numbers([row], "step")[0]))
    log(metrics)
    with output_directory(out) as partial:
        write_rows(partial / "steps.csv", rows)
        write_json(partial / "metrics.json", metrics)
    return metrics
