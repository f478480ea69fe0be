"""Error against iterations and tolerances, with all points of a sweep from one solve of each pair."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from tqdm import tqdm

from deq_core.experiment.config.layer import StopConfig
from deq_core.experiment.tables import Row, grouped, numbers
from deq_flow.data.batches import FlowBatch, same_shape
from deq_flow.data.samples import SampleSet
from deq_flow.evaluation.sets import SETS
from deq_flow.finite import require_finite
from deq_flow.inference import Estimator
from deq_flow.inference_params import Inference, Measure, Sweep
from deq_flow.metrics import PROTOCOLS, sample_metrics
from deq_flow.models import RAFT, DEQFlow, FlowOutput

Point = tuple[str, float]
"""A point of a sweep: ("iterations", 12) or ("tolerance", 0.01)."""


def sweep_rows(network: DEQFlow | RAFT, choice: Measure, sets: Mapping[str, SampleSet]) -> Iterator[Row]:
    """One row for each sweep, pair and point: sweep, set, name, axis, at, iterations, [residual, converged,] metrics.

    `axis` is "iterations" or "tolerance", and `at` the value on it. `iterations` is the number of iterations of the
    point, at the finest scale, and `residual` that of its flow. An unrolled network has neither residuals nor
    tolerances.

    Raises:
        NonFiniteError: the flow of a pair is not finite at a point.
    """
    for title, sweep in choice.sweeps.items():
        for name, pairs in sets.items():
            estimate = Estimator(network, swept(sweep, choice.inference), padding=SETS[name].padding)
            for row in rows_of(estimate, sweep, pairs, choice.batch_size, title=f"{name}, {title}"):
                yield {"sweep": title, "set": name, **row}


def swept(sweep: Sweep, choice: Inference) -> Inference:
    """Options of inference of a sweep: up to its last iteration, without a tolerance, in the precision of `choice`."""
    last = sweep.iterations[-1]
    stop = StopConfig(max_steps=last, relative=sweep.relative)
    return replace(choice, solver=sweep.solver, stop=stop, steps=last, scales=sweep.scales)


def rows_of(estimate: Estimator, sweep: Sweep, pairs: SampleSet, batch_size: int, *, title: str) -> Iterator[Row]:
    """The rows of one sweep on one set, pair by pair."""
    with tqdm(total=len(pairs), desc=title, unit="pair", disable=None) as progress:
        for group in same_shape(pairs, batch_size):
            batch = FlowBatch.collate(group)
            output = estimate(batch.image1, batch.image2, record=range(1, sweep.iterations[-1] + 1))
            points = [points_of(output, sweep, index) for index in range(len(group))]
            for index, sample in enumerate(group):
                for (axis, at), solved in points[index].items():
                    taken = int(solved["iterations"])
                    flow = output.flows[taken - 1][index].cpu()
                    require_finite(flow, f"{title}, {sample.name}, after {taken} iterations")
                    metrics = sample_metrics(flow, sample.flow, sample.valid)
                    yield {"name": sample.name, "axis": axis, "at": at, **solved, **metrics}
            progress.update(len(group))


def points_of(output: FlowOutput, sweep: Sweep, index: int) -> dict[Point, dict[str, float]]:
    """The points of a sweep for one sample of a batch, with their iterations, residual and convergence."""
    if output.solution is None:
        return {("iterations", at): {"iterations": at} for at in sweep.iterations}
    lowest = output.solution.residuals(sweep.iterations[-1])[:, index].cpu()
    points: dict[Point, dict[str, float]] = {
        ("iterations", at): {"iterations": at, "residual": float(lowest[at - 1])} for at in sweep.iterations
    }
    for tolerance in sweep.tolerances:
        taken = first_below(lowest, tolerance)
        reached = float(lowest[taken - 1])
        points["tolerance", tolerance] = {
            "iterations": taken,
            "residual": reached,
            "converged": float(reached <= tolerance),
        }
    return points


def first_below(lowest: Tensor, tolerance: float) -> int:
    """The first evaluation, from 1, whose lowest residual so far (n,) is within a tolerance; n if there is none."""
    below = torch.nonzero(lowest <= tolerance)
    return int(below[0]) + 1 if len(below) else len(lowest)


def summary(rows: Sequence[Row]) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """{sweep: {set: {"iterations 12": {metric: value}}}}, averaged over samples by each set's protocol.

    iterations, residual and converged are means over samples; converged is then a share.
    """
    result: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for (sweep, name, axis, at), group in grouped(rows, ("sweep", "set", "axis", "at")).items():
        texts = ("sweep", "set", "name", "axis")
        values = [{key: numbers([row], key)[0] for key in row if key not in texts} for row in group]
        joined = PROTOCOLS[SETS[name].protocol](values)
        for key in ("iterations", "residual", "converged"):
            if key in group[0]:
                joined[key] = sum(numbers(group, key)) / len(group)
        result.setdefault(sweep, {}).setdefault(name, {})[f"{axis} {at}"] = joined
    return result
