"""Heterogeneous convergence (Wang et al., NeurIPS 2024) on flow networks: parts of a state settle at different steps.

A trained network is solved for a fixed number of steps from a cold start, densely, and its states are watched.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor

import deq_core as deq
from deq_core.experiment.data.arrays import write_arrays
from deq_core.experiment.files import output_directory, write_json
from deq_core.experiment.rescue import rescued
from deq_core.experiment.rescue import tables as tables_of
from deq_core.experiment.tables import Row, write_rows
from deq_core.experiment.tracking.run import Log
from deq_flow.data.samples import FlowSample, SampleSet
from deq_flow.delta import encode, equilibrium_network, labelled
from deq_flow.delta_params import Convergence
from deq_flow.finite import require_finite
from deq_flow.metrics import epe
from deq_flow.models import DEQFlow
from deq_flow.settling import (
    CRITERIA,
    Components,
    Criterion,
    distribution,
    histogram,
    principal_components,
    settled_after,
)

PARTS = ("hidden", "flow")


@torch.no_grad()
def trajectory(model: DEQFlow, sample: FlowSample, config: Convergence) -> tuple[Tensor, list[float], list[float]]:
    """The states of a cold dense solve after every step, the errors of their flow, and the residuals.

    Returns:
        (steps, hidden + 2, h, w), the flow in cells as the last two channels; EPE in pixels of the flow at every
        step; the relative residual of every evaluation. Step k is what the solver proposes after evaluation k;
        after the last, it is the image f(z).

    Raises:
        NonFiniteError: the flow is not finite at a step.
    """
    pair, padding = encode(model, [sample], "centre")
    f, start = model.map(pair), model.start(pair)
    arguments: list[Tensor] = []
    images: list[Tensor] = []

    def watched(hidden: Tensor, unknown: Tensor) -> tuple[Tensor, Tensor]:
        image = f(hidden, unknown)
        arguments.append(torch.cat([hidden, unknown - start[1]], dim=1))
        images[:] = [torch.cat([image[0], image[1] - start[1]], dim=1)]
        return image

    stop = deq.Stop(max_steps=config.steps, tol=None)
    solution = deq.fixed_point(watched, start, solver=config.solver, stop=stop)
    states = torch.cat([*arguments[1:], *images])
    errors = []
    for step, state in enumerate(states.split(1), start=1):
        hidden, flow = state.split([model.size.hidden, 2], dim=1)
        predicted = padding.crop(pair.finish(flow, hidden))[0].cpu()
        require_finite(predicted, f"{sample.name}, after {step} evaluations")
        errors.append(float(epe(predicted, sample.flow, sample.valid)))
    return states, errors, solution.trace[:, 0].tolist()


@dataclass
class Watch:
    """What is gathered of the trajectories of one set, pair by pair."""

    settled: dict[tuple[str, Criterion], list[Tensor]] = field(default_factory=dict)
    """(part, criterion) -> steps (elements,)."""
    components: list[Components] = field(default_factory=list)
    """Of the points that the channels of a cell make at every step, all cells together."""
    errors: list[list[float]] = field(default_factory=list)
    """After every step, EPE."""
    residuals: list[list[float]] = field(default_factory=list)
    """At every evaluation."""
    paths: Tensor | None = None
    """(points, steps, components) of cells along the middle row of the first pair."""
    maps: dict[str, Tensor] = field(default_factory=dict)
    """"part_criterion" -> (h, w) mean over the channels of the steps to settle, in the first pair."""


def watch(model: DEQFlow, pairs: SampleSet, config: Convergence, found: Watch | None = None) -> Watch:
    """Solves the pairs one by one and gathers when each element settled, in `found` where it is given."""
    found = found or Watch()
    for index in range(len(pairs) if config.pairs is None else min(config.pairs, len(pairs))):
        states, errors, residuals = trajectory(model, pairs[index], config)
        points = states.permute(2, 3, 0, 1)  # (h, w, steps, channels)
        components = principal_components(points.flatten(0, 2))
        found.components.append(components)
        found.errors.append(errors)
        found.residuals.append(residuals)
        for part, values in zip(PARTS, states.split([model.size.hidden, 2], dim=1), strict=True):
            bound = config.tolerance * values[-1].square().mean().sqrt()
            for criterion in CRITERIA:
                steps = settled_after(values, bound, criterion)
                found.settled.setdefault((part, criterion), []).append(steps.flatten())
                if index == 0:
                    found.maps[f"{part}_{criterion}"] = steps.float().mean(dim=0)
        if index == 0:
            height, width = points.shape[:2]
            columns = torch.linspace(0, width - 1, config.points + 2).round().long()[1:-1]
            found.paths = components.project(points[height // 2, columns])
    return found


def tables(found: Watch, name: str, config: Convergence) -> dict[str, list[Row]]:
    """The rows of one set: distribution, histogram, components and steps."""
    result: dict[str, list[Row]] = {"distribution": [], "histogram": [], "components": [], "steps": []}
    for (part, criterion), parts in found.settled.items():
        steps = torch.cat(parts)
        key: Row = {"set": name, "part": part, "criterion": criterion}
        result["distribution"].append({**key, "elements": steps.numel(), **distribution(steps, config.steps)})
        shares = histogram(steps, config.steps).tolist()
        result["histogram"] += [{**key, "step": step, "share": share} for step, share in enumerate(shares, start=1)]
    explained = torch.stack([components.explained for components in found.components]).mean(dim=0)
    result["components"] += [
        {"set": name, "component": number, "explained": share, "cumulative": together}
        for number, (share, together) in enumerate(
            zip(explained.tolist(), explained.cumsum(0).tolist(), strict=True), start=1
        )
    ]
    errors = torch.tensor(found.errors).mean(dim=0).tolist()
    residuals = torch.tensor(found.residuals).mean(dim=0).tolist()
    result["steps"] += [
        {"set": name, "step": step, "epe": error, "residual": residual}
        for step, (error, residual) in enumerate(zip(errors, residuals, strict=True), start=1)
    ]
    return result


def measured(
    before: Mapping[str, Sequence[Row]], found: Watch, name: str, config: Convergence
) -> Callable[[Path], None]:
    """What `rescued` writes: the tables of the sets before and of what was seen of the set `name`."""

    def write(folder: Path) -> None:
        seen = tables(found, name, config) if found.errors else {}
        tables_of({table: [*before.get(table, []), *seen.get(table, [])] for table in {**before, **seen}})(folder)

    return write


def watch_convergence(model: Path, config: Convergence, *, data: Path, out: Path, log: Log) -> dict[str, float]:
    """Watches the trained equilibrium network in the folder `model` converge.

    Writes to `out`: distribution.csv (percentiles of the steps to settle), histogram.csv, components.csv (of the
    trajectories), steps.csv (error and residual), maps.npz (the first pair of the first set) and metrics.json.

    Returns:
        {"set.quantity": value}: percentiles of the hidden state's and the flow's elements, the share that never
        settled, and how many components explain 99 % of the variance.
    """
    torch.set_num_threads(config.threads)
    network = equilibrium_network(model).to(config.device)
    rows: dict[str, list[Row]] = {}
    arrays: dict[str, Tensor] = {}
    metrics: dict[str, float] = {}
    for name, pairs in labelled(data, config.sets).items():
        found = Watch()
        with rescued(out, measured(rows, found, name, config)):
            watch(network, pairs, config, found)
        for table, more in tables(found, name, config).items():
            rows.setdefault(table, []).extend(more)
        for (part, criterion), parts in found.settled.items():
            if criterion == "lasting":
                values = distribution(torch.cat(parts), config.steps)
                metrics |= {f"{name}.{part}.{key}": value for key, value in values.items()}
        needed = [components.needed() for components in found.components]
        metrics[f"{name}.components"] = sum(needed) / len(needed)
        metrics[f"{name}.residual"] = mean(residuals[-1] for residuals in found.residuals)
        if not arrays and found.paths is not None:
            arrays = {"image": pairs[0].image1, "paths": found.paths, **found.maps}
    log(metrics)
    with output_directory(out) as partial:
        for table, more in rows.items():
            write_rows(partial / f"{table}.csv", more)
        write_arrays(partial / "maps.npz", arrays)
        write_json(partial / "metrics.json", metrics)
    return metrics
