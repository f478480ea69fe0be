"""Evaluation of a checkpoint on published sets by their protocols, and over solvers, iterations and tolerances."""

from collections.abc import Sequence
from pathlib import Path

import torch

from deq_core.experiment.files import output_directory, write_json
from deq_core.experiment.rescue import rescued, tables
from deq_core.experiment.tables import Row, write_rows
from deq_core.experiment.tracking.run import Log
from deq_flow.data.batches import FlowBatch
from deq_flow.evaluation.evaluate import Evaluation, Method, Prediction, evaluate, flat, labelled_sets, summary
from deq_flow.evaluation.sets import SETS, as_published
from deq_flow.evaluation.sweeps import summary as summary_of_sweeps
from deq_flow.evaluation.sweeps import sweep_rows
from deq_flow.inference import Estimator
from deq_flow.inference_params import Measure
from deq_flow.models import RAFT, DEQFlow


def measure_checkpoint(
    network: DEQFlow | RAFT, choice: Measure, names: Sequence[str], *, root: Path, out: Path, log: Log
) -> dict[str, float]:
    """Measures a network on the sets `names` below `root`.

    Writes to `out` samples.csv, with one row for each pair; metrics.json, the published metrics of each set; and with
    sweeps, sweeps.csv, with one row for each sweep, pair and point, and sweeps.json.

    Returns:
        {set.metric: value}.
    """
    sets = labelled_sets(root, names)
    found = Evaluation()
    rows: list[Row] = []
    with rescued(out, tables({"samples": found.samples, "sweeps": rows})):
        for name, pairs in sets.items():
            method = solved_once(Estimator(network, as_published(choice.inference, name), padding=SETS[name].padding))
            evaluate(method, {name: pairs}, batch_size=choice.batch_size, found=found)
        for row in sweep_rows(network, choice, sets):
            rows.append(row)
    metrics = summary(found.samples)
    log(flat(metrics))
    with output_directory(out) as partial:
        write_rows(partial / "samples.csv", found.samples)
        write_json(partial / "metrics.json", metrics)
        if rows:
            write_rows(partial / "sweeps.csv", rows)
            write_json(partial / "sweeps.json", summary_of_sweeps(rows))
    return flat(metrics)


def solved_once(estimate: Estimator) -> Method:
    """A network as a method. `solved` is of the finest scale, except that `converged` requires all scales to be."""

    def predict(batch: FlowBatch) -> Prediction:
        output = estimate(batch.image1, batch.image2)
        if output.solution is None:
            return Prediction(output.flow.cpu())
        solved = {"steps": output.solution.steps, "residual": output.solution.residual}
        if estimate.tolerance is not None:
            solved["converged"] = torch.stack([solution.converged for solution in output.solutions]).all(dim=0)
        return Prediction(output.flow.cpu(), solved={name: value.cpu() for name, value in solved.items()})

    return predict
