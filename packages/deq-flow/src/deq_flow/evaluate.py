"""Evaluation on the labelled sets: metrics per sample, and error and residual after every iteration."""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deq_core.experiment.files import output_directory, write_bytes, write_json
from deq_core.experiment.results import Row, numbers, write_rows
from deq_core.experiment.tracking import Log
from deq_flow.data.batches import FlowBatch, SampleSet
from deq_flow.data.kitti import Kitti
from deq_flow.data.samples import FlowSample
from deq_flow.data.sintel import Sintel
from deq_flow.metrics import epe, kitti_protocol, sample_metrics, sintel_protocol
from deq_flow.models import DEQFlow
from deq_flow.networks import Network, load_network
from deq_flow.params import Evaluate


@dataclass(frozen=True)
class Prediction:
    """What a method says of a batch of pairs."""

    flow: Tensor
    """(B, 2, H, W), pixels."""
    trajectory: Sequence[Tensor] = ()
    """The flow after each iteration, (B, 2, H, W) each; empty where a method has none."""
    residuals: Tensor | None = None
    """(iterations, B), relative residual after each iteration of an equilibrium solve."""


Method = Callable[[FlowBatch], Prediction]


@dataclass(frozen=True)
class Evaluation:
    """Results of one method on all sets."""

    samples: list[Row]
    """One row a pair: set, name, pixels, and the metrics over its valid pixels."""
    steps: list[Row]
    """One row a set and iteration: set, step, epe, residual."""


PROTOCOLS = {
    "sintel_clean": sintel_protocol,
    "sintel_final": sintel_protocol,
    "kitti": kitti_protocol,
    "motorcycle": kitti_protocol,
}


def labelled_sets(data: Path) -> dict[str, SampleSet]:
    """The sets with ground truth below `data`: none of them shares a photograph with training."""
    return {
        "sintel_clean": Sintel(data, render="clean"),
        "sintel_final": Sintel(data, render="final"),
        "kitti": Kitti(data),
        "motorcycle": Kitti(data / "Motorcycle"),
    }


def evaluate(method: Method, sets: Mapping[str, SampleSet], *, batch_size: int) -> Evaluation:
    """Measures a method on every set, `batch_size` pairs of one shape at a time."""
    samples: list[Row] = []
    steps: list[Row] = []
    for name, pairs in sets.items():
        errors: list[Tensor] = []  # (iterations, B) each
        residuals: list[Tensor] = []
        for group in same_shape(pairs, batch_size):
            batch = FlowBatch.collate(group)
            prediction = method(batch)
            for index, sample in enumerate(group):
                metrics = sample_metrics(prediction.flow[index], sample.flow, sample.valid)
                samples.append({"set": name, "name": sample.name, **metrics})
            if prediction.trajectory:
                errors.append(torch.stack([epe(flow, batch.flow, batch.valid) for flow in prediction.trajectory]))
            if prediction.residuals is not None:
                residuals.append(prediction.residuals)
        steps.extend(step_rows(name, errors, residuals))
    return Evaluation(samples, steps)


def evaluate_network(model: Path, config: Evaluate, *, data: Path, out: Path, log: Log) -> dict[str, float]:
    """Measures the trained network in the folder `model`; writes the tables, metrics.json and example.npz to `out`."""
    torch.set_num_threads(config.threads)
    sets = labelled_sets(data)
    method = network_method(load_network(model), config)
    measured = evaluate(method, sets, batch_size=config.batch_size)
    for row in measured.steps:
        names = [key for key in row if key not in ("set", "step")]
        log({f"{row['set']}.{key}_at_step": numbers([row], key)[0] for key in names}, int(numbers([row], "step")[0]))
    metrics = summary(measured.samples)
    log(flat(metrics))
    with output_directory(out) as partial:
        write_rows(partial / "samples.csv", measured.samples)
        write_rows(partial / "steps.csv", measured.steps)
        write_json(partial / "metrics.json", metrics)
        write_example(partial / "example.npz", method, sets["sintel_clean"], config.example)
    return flat(metrics)


def write_example(path: Path, method: Method, pairs: SampleSet, index: int) -> None:
    """Writes images, true flow and predicted flow of one pair, for a figure."""
    if not 0 <= index < len(pairs):
        raise ValueError(f"evaluate.example: expected a pair from 0 to {len(pairs) - 1}, got {index}")
    sample = pairs[index]
    flow = method(FlowBatch.collate([sample])).flow[0]
    shown = {"image1": sample.image1, "image2": sample.image2, "target": sample.flow, "valid": sample.valid}
    arrays = {name: tensor.numpy() for name, tensor in {**shown, "flow": flow}.items()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    write_bytes(path, buffer.getvalue())


def flat(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """{set: {metric: value}} as {"set.metric": value}."""
    return {f"{name}.{key}": value for name, values in metrics.items() for key, value in values.items()}


def summary(samples: Sequence[Row]) -> dict[str, dict[str, float]]:
    """{set: metrics} by the protocol of each benchmark, with `pairs` the number of samples."""
    result: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(str(row["set"]) for row in samples):
        rows = [row for row in samples if row["set"] == name]
        columns = {key: numbers(rows, key) for key in ("pixels", "epe", "px1", "px3", "px5", "f1_all")}
        metrics = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        result[name] = {**PROTOCOLS[name](metrics), "pairs": len(rows)}
    return result


def network_method(network: Network, config: Evaluate) -> Method:
    """A network as a method, its stop that of `config`; its trajectory comes from a second, longer run."""
    if isinstance(network, DEQFlow):
        network.equilibrium = replace(network.equilibrium, eval_stop=config.stop.build())
    steps = None if isinstance(network, DEQFlow) else config.unrolled_steps

    def predict(batch: FlowBatch) -> Prediction:
        with torch.no_grad():
            flow = network(batch.image1, batch.image2, steps=steps).flow
            sweep = network(batch.image1, batch.image2, steps=config.sweep, record=range(1, config.sweep + 1))
        if sweep.solution is None:
            return Prediction(flow, sweep.flows[:-1])
        trace = sweep.solution.trace
        held = trace[-1:].expand(config.sweep - len(trace), -1)  # a converged sample stays as it is
        return Prediction(flow, sweep.flows[:-1], torch.cat([trace, held]))

    return predict


def same_shape(pairs: SampleSet, batch_size: int) -> Iterator[list[FlowSample]]:
    """Runs of at most `batch_size` consecutive samples whose images have one shape."""
    group: list[FlowSample] = []
    for index in range(len(pairs)):
        sample = pairs[index]
        if group and (len(group) == batch_size or sample.image1.shape != group[0].image1.shape):
            yield group
            group = []
        group.append(sample)
    if group:
        yield group


def step_rows(name: str, errors: Sequence[Tensor], residuals: Sequence[Tensor]) -> list[Row]:
    """Rows (set, step, epe[, residual]) averaged over the pairs of a set."""
    if not errors:
        return []
    means = torch.cat(list(errors), dim=1).mean(dim=1)
    rows: list[Row] = [{"set": name, "step": step, "epe": float(value)} for step, value in enumerate(means, start=1)]
    if residuals:
        means = torch.cat(list(residuals), dim=1).mean(dim=1)
        rows = [{**row, "residual": float(value)} for row, value in zip(rows, means, strict=True)]
    return rows
