"""Evaluation on sets with ground truth: metrics per sample, and error and residual after every iteration."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from deq_core.experiment.config import ConfigError
from deq_core.experiment.tables import Row, grouped, numbers
from deq_flow.data.batches import FlowBatch, same_shape
from deq_flow.data.samples import FlowSample, SampleSet, require_known
from deq_flow.evaluation.sets import EMBEDDED, SETS
from deq_flow.finite import require_finite
from deq_flow.metrics import PROTOCOLS, SHARES, epe, region_metrics, regions_of, released_metrics, sample_metrics


@dataclass(frozen=True)
class Prediction:
    """The prediction of a method for a batch of pairs."""

    flow: Tensor
    """(B, 2, H, W), pixels."""
    trajectory: Sequence[Tensor] = ()
    """The flow after each iteration, (B, 2, H, W) each; empty if the method does not iterate."""
    residuals: Tensor | None = None
    """(iterations, B), relative residual after each iteration of an equilibrium solve."""
    solved: Mapping[str, Tensor] = field(default_factory=dict)
    """Results of a solve, (B,) each: steps, residual, converged."""


Method = Callable[[FlowBatch], Prediction]


@dataclass(frozen=True)
class Evaluation:
    """Results of one method on all sets."""

    samples: list[Row] = field(default_factory=list)
    """One row for each pair: set, name, the metrics of `measured`, and the results of `Prediction.solved`."""
    steps: list[Row] = field(default_factory=list)
    """One row for each set and iteration: set, step, epe and, of an equilibrium solve, residual."""


def labelled_sets(data: Path, names: Sequence[str] = tuple(EMBEDDED)) -> dict[str, SampleSet]:
    """Sets with ground truth below `data` by their names in `sets.SETS`; those of the embedded data by default.

    Raises:
        ConfigError: there is no set of a name.
        LayoutError: a set is missing below `data`, or incomplete.
    """
    if unknown := [name for name in names if name not in SETS]:
        raise ConfigError(f"no set is named {unknown[0]!r}; there are {', '.join(SETS)}")
    return {name: SETS[name].read(data) for name in names}


def evaluate(
    method: Method, sets: Mapping[str, SampleSet], *, batch_size: int, found: Evaluation | None = None
) -> Evaluation:
    """Measures a method on every set, `batch_size` pairs of one shape at a time.

    Args:
        method: method to measure.
        sets: sets to measure it on, by name.
        batch_size: greatest number of pairs in a batch.
        found: receives every row as soon as it is measured, and is returned; a new one by default.

    Raises:
        NonFiniteError: the flow of a pair is not finite, at the end or after an iteration.
        FileFormatError: a pair has no pixel of known flow.
    """
    found = found or Evaluation()
    for name, pairs in sets.items():
        errors: list[Tensor] = []  # (iterations, B) each
        residuals: list[Tensor] = []
        progress = tqdm(total=len(pairs), desc=name, unit="pair", disable=None)
        for group in same_shape(pairs, batch_size):
            for sample in group:
                require_known(sample, f"{name}, {sample.name}")
            batch = FlowBatch.collate(group)
            prediction = method(batch)
            for index, sample in enumerate(group):
                pair = f"{name}, {sample.name}"
                require_finite(prediction.flow[index], pair)
                for step, flow in enumerate(prediction.trajectory, start=1):
                    require_finite(flow[index], f"{pair}, after {step} iterations")
                solved = {key: value[index].item() for key, value in prediction.solved.items()}
                row = {"set": name, "name": sample.name, **measured(prediction.flow[index], sample), **solved}
                found.samples.append(row)
            if prediction.trajectory:
                errors.append(torch.stack([epe(flow, batch.flow, batch.valid) for flow in prediction.trajectory]))
            if prediction.residuals is not None:
                residuals.append(prediction.residuals)
            progress.update(len(group))
        progress.close()
        found.steps.extend(step_rows(name, errors, residuals))
    return found


def measured(flow: Tensor, sample: FlowSample) -> dict[str, float]:
    """All metrics of a flow (2, h, w): over the valid pixels, over regions of them, and as the release logs them.

    They are those of `sample_metrics`; those of `region_metrics`, prefixed by the region and a dot; and those of
    `released_metrics`, prefixed by `released.`
    """
    parts = regions_of(sample.flow, sample.valid, sample.occluded, sample.invalid)
    logged = released_metrics(flow[None], sample.flow[None], sample.valid[None])
    return {
        **sample_metrics(flow, sample.flow, sample.valid),
        **region_metrics(flow, sample.flow, parts),
        **{f"released.{name}": float(value) for name, value in logged.items()},
    }


def flat(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """{set: {metric: value}} as {"set.metric": value}."""
    return {f"{name}.{key}": value for name, values in metrics.items() for key, value in values.items()}


def summary(samples: Sequence[Row]) -> dict[str, dict[str, float]]:
    """{set: metrics} by the protocol of each benchmark, and `pairs`, the number of samples.

    Metrics of regions, such as `occluded.epe`, are averaged by the same protocol over the samples that have the region.
    `released.` metrics and the results of solves are means over samples.
    """
    result: dict[str, dict[str, float]] = {}
    for (name,), rows in grouped(samples, ("set",)).items():
        join = PROTOCOLS[SETS[name].protocol]
        result[name] = join([values(row) for row in rows])
        for part in dict.fromkeys(
            key.removesuffix(".pixels") for row in rows for key in row if key.endswith(".pixels")
        ):
            having = [values(row, f"{part}.") for row in rows if f"{part}.pixels" in row]
            result[name] |= {f"{part}.{key}": value for key, value in join(having).items()}
        averaged = [*(f"released.{key}" for key in SHARES), "steps", "residual", "converged"]
        result[name] |= {key: sum(numbers(rows, key)) / len(rows) for key in averaged if key in rows[0]}
        result[name]["pairs"] = len(rows)
    return result


def values(row: Row, prefix: str = "") -> dict[str, float]:
    """The numbers of a row whose names begin with `prefix` and have no further dot, by the names without it."""
    names = [key for key in row if key.startswith(prefix) and "." not in key.removeprefix(prefix)]
    return {key.removeprefix(prefix): numbers([row], key)[0] for key in names if not isinstance(row[key], str)}


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
