"""Cold, warm and reused starts of a network on videos, compared at several budgets."""

from pathlib import Path

import torch

from deq_core.experiment.data.released import located
from deq_core.experiment.files import output_directory, write_json
from deq_core.experiment.rescue import rescued, tables
from deq_core.experiment.tables import Row, numbers, write_rows
from deq_core.experiment.tracking.run import Log
from deq_flow.inference import Estimator
from deq_flow.inference_params import Reuse, Starts
from deq_flow.models import RAFT, DEQFlow
from deq_flow.networks import load_network
from deq_flow.sequences import measure, nested, summary
from deq_flow.sets import SETS, sequences_of

BY = ("budget", "start")


def reuse_network(model: Path, config: Reuse, *, data: Path, out: Path, log: Log) -> dict[str, float]:
    """Compares the starts of the trained network in the folder `model` on the videos of the pipeline."""
    torch.set_num_threads(config.threads)
    return compare_starts(load_network(model), config, config.set, root=located(data), out=out, log=log)


def compare_starts(
    network: DEQFlow | RAFT, config: Starts, name: str, *, root: Path, out: Path, log: Log
) -> dict[str, float]:
    """Runs a network over the videos of the set `name` below `root`, from every start, at every budget.

    Writes to `out` frames.csv, a row a budget, start and pair; sequences.csv, their means over each video; and
    metrics.json, their means over all pairs as {budget: {start: {metric: value}}}.

    Returns:
        {budget.start.metric: value} for epe and iterations.
    """
    pairs = sequences_of(name, root)
    frames: list[Row] = []
    with rescued(out, tables({"frames": frames})):
        for budget, choice in config.budgets.items():
            estimate = Estimator(network, choice, padding=SETS[name].padding)
            for row in measure(estimate, pairs, config.starts, title=f"{name}, {budget}"):
                frames.append({"budget": budget, **row})
    for row in frames:
        place = f"{row['budget']}.{row['start']}.{row['sequence']}"
        values = {f"{place}.{key}": numbers([row], key)[0] for key in ("epe", "iterations")}
        log(values, int(numbers([row], "frame")[0]))
    means = summary(frames, BY)
    with output_directory(out) as partial:
        write_rows(partial / "frames.csv", frames)
        write_rows(partial / "sequences.csv", summary(frames, (*BY, "sequence")))
        write_json(partial / "metrics.json", nested(means, BY))
    return {
        f"{row['budget']}.{row['start']}.{key}": numbers([row], key)[0]
        for row in means
        for key in ("epe", "iterations")
    }
