"""Test-time behaviour of networks trained with N evaluations: accuracy, loss and residual at every other number."""

from dataclasses import replace
from pathlib import Path

import torch

from deq_core.experiment import distributed
from deq_core.experiment.data.released import located
from deq_core.experiment.files import output_directory, write_json
from deq_core.experiment.rescue import rescued, tables
from deq_core.experiment.tables import Row, numbers, write_rows
from deq_core.experiment.tracking.run import Log
from deq_vision.models.build import load
from deq_vision.params import Classify
from deq_vision.stability_params import Measure
from deq_vision.sweep import Sweep
from deq_vision.tasks import batches_in_order, require_head


def measure(model: Path, task: Classify, config: Measure, *, data: Path, out: Path, log: Log) -> dict[str, float]:
    """Measures the network in the folder `model` after each evaluation of one solve that spends all of the sweep.

    Writes steps.csv, one row a split and step (split, step, loss, top1, residual), and metrics.json to `out`.

    Returns:
        Accuracy, loss and residual of each split at the number of evaluations that the network was trained with, as
        `<split>.<metric>`, and at the last of the sweep, as `<split>.<metric>_last`.

    Raises:
        ValueError: the sweep ends before that number.
        ConfigError: the data have another number of classes than the network's head.
        NonFiniteError: what the network gives for an image is not finite; the rows of those before it are in the
            folder `out`-partial.
    """
    torch.set_num_threads(config.threads)
    device, root = distributed.device(config.device), located(data)
    network = load(model).to(device)
    trained = network.equilibrium.stop.max_steps
    if trained > config.sweep:
        raise ValueError(f"measure.sweep: expected at least the {trained} evaluations of {model}, got {config.sweep}")
    for split in config.splits:
        require_head(task, network.size.head, root, split, source=model)
    stop = replace(network.equilibrium.stop, max_steps=config.sweep, tol=None)
    sweeps = {split: Sweep(task, stop) for split in config.splits}

    def rows() -> list[Row]:
        return [{"split": split, **row} for split, counted in sweeps.items() for row in counted.rows()]

    with rescued(out, lambda folder: tables({"steps": rows()})(folder)):
        for split in config.splits:
            for batch in batches_in_order(task, root, split, config.batch_size, multiple=network.size.multiple):
                sweeps[split].add(network, batch.to(device))
    metrics: dict[str, float] = {"trained_steps": trained}
    for split, counted in sweeps.items():
        found = counted.rows()
        for place, ending in ((trained, ""), (config.sweep, "_last")):
            row = found[place - 1]
            metrics |= {f"{split}.{key}{ending}": numbers([row], key)[0] for key in row if key != "step"}
    log(metrics)
    with output_directory(out) as partial:
        write_rows(partial / "steps.csv", rows())
        write_json(partial / "metrics.json", metrics)
    return metrics
