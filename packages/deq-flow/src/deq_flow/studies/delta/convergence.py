"""Heterogeneous convergence (Wang et al., NeurIPS 2024) of flow networks: when the elements of their states settle.

The states are those of a dense solve from a cold start with a fixed number of steps.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import mean
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor

import deq_core as deq
from deq_core.experiment import distributed
from deq_core.experiment.config import Once
from deq_core.experiment.config.layer import Solver
from deq_core.experiment.data.released import located
from deq_core.experiment.study.measured import Measured
from deq_core.experiment.study.stage import Job, Stage
from deq_core.experiment.tables import Row
from deq_flow.data.samples import FlowSample, SampleSet
from deq_flow.evaluation.evaluate import labelled_sets
from deq_flow.finite import require_finite
from deq_flow.metrics import epe
from deq_flow.models import DEQFlow
from deq_flow.studies.delta.trajectories import (
    CRITERIA,
    Criterion,
    component_rows,
    components_needed,
    convergence_steps,
    distribution,
    explained_variance,
    histogram,
)
from deq_flow.studies.equilibrium import encode, equilibrium_network

PARTS = ("hidden", "flow")


@dataclass(frozen=True, kw_only=True)
class Convergence:
    """Settings of the study of when the elements of a flow network's state stop changing."""

    sets: Once[str]
    solver: Solver
    steps: int
    """Number of evaluations of the solve."""
    tolerance: float
    """Largest change that counts as small, relative to the final root mean square of the hidden state, or flow."""
    pairs: int | None = None
    """Number of pairs to take from the start of a set; None is all."""
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        if self.steps < 2 or not self.tolerance > 0:
            raise ValueError(
                f"convergence: expected at least 2 steps and a tolerance above 0, got {self.steps} and {self.tolerance}"
            )


@torch.no_grad()
def trajectory(
    model: DEQFlow, sample: FlowSample, config: Convergence, *, of: str
) -> tuple[Tensor, list[float], list[float]]:
    """The states, errors and residuals of a dense solve of a pair of the set `of` from a cold start.

    Returns:
        States (steps, hidden + 2, h, w) after each step, with the flow in cells as the last two channels; EPE in pixels
        after each step; relative residual of each evaluation. The state of step k is the solver's next iterate after
        evaluation k; that of the last step is the image f(z).

    Raises:
        NonFiniteError: the flow is not finite at a step.
    """
    pair, padding = encode(model, [sample], of=of)
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
    """Results for the pairs of one set."""

    settled: dict[tuple[str, Criterion], list[Tensor]] = field(default_factory=dict)
    """(part, criterion) -> steps to settle (elements,), for each pair."""
    explained: list[Tensor] = field(default_factory=list)
    """Variance that principal components explain, for each pair; a point is the channels of one cell at one step."""
    errors: list[list[float]] = field(default_factory=list)
    """EPE after each step, for each pair."""
    residuals: list[list[float]] = field(default_factory=list)
    """Residual of each evaluation, for each pair."""
    maps: dict[str, Tensor] = field(default_factory=dict)
    """"part_criterion" -> steps to settle in the first pair, (h, w), means over channels."""


def watch(model: DEQFlow, pairs: SampleSet, config: Convergence, found: Watch, *, of: str) -> None:
    """Solves the pairs of the set `of` one by one, and adds the results to `found`."""
    for index in range(len(pairs) if config.pairs is None else min(config.pairs, len(pairs))):
        states, errors, residuals = trajectory(model, pairs[index], config, of=of)
        points = rearrange(states, "steps channels h w -> h w steps channels")
        found.explained.append(explained_variance(points.flatten(0, 2)))
        found.errors.append(errors)
        found.residuals.append(residuals)
        for part, values in zip(PARTS, states.split([model.size.hidden, 2], dim=1), strict=True):
            bound = config.tolerance * values[-1].square().mean().sqrt()
            for criterion in CRITERIA:
                steps = convergence_steps(values, bound, criterion)
                found.settled.setdefault((part, criterion), []).append(steps.flatten())
                if index == 0:
                    found.maps[f"{part}_{criterion}"] = steps.float().mean(dim=0)


def tables(found: Watch, name: str, config: Convergence) -> dict[str, list[Row]]:
    """The rows of one set: distribution, histogram, components and steps."""
    result: dict[str, list[Row]] = {"distribution": [], "histogram": [], "components": [], "steps": []}
    for (part, criterion), parts in found.settled.items():
        steps = torch.cat(parts)
        key: Row = {"set": name, "part": part, "criterion": criterion}
        result["distribution"].append({**key, "elements": steps.numel(), **distribution(steps, config.steps)})
        shares = histogram(steps, config.steps).tolist()
        result["histogram"] += [{**key, "step": step, "share": share} for step, share in enumerate(shares, start=1)]
    explained = component_rows(torch.stack(found.explained).mean(dim=0))
    result["components"] += [{"set": name, **row} for row in explained]
    errors = torch.tensor(found.errors).mean(dim=0).tolist()
    residuals = torch.tensor(found.residuals).mean(dim=0).tolist()
    result["steps"] += [
        {"set": name, "step": step, "epe": error, "residual": residual}
        for step, (error, residual) in enumerate(zip(errors, residuals, strict=True), start=1)
    ]
    return result


def measure(job: Job[Measured, Convergence]) -> Mapping[str, float]:
    """Measures when the elements of an equilibrium network's state converge.

    The tables are `distribution` (percentiles of the steps to settle), `histogram`, `components` (of the trajectories)
    and `steps` (error and residual); the arrays `maps` are of the first pair of the first set.

    Returns:
        {"set.quantity": value}: percentiles for the elements of the hidden state and of the flow, the share that never
        settled, the number of components that explain 99 % of the variance, and the final residual.
    """
    config = job.settings
    torch.set_num_threads(config.threads)
    network = equilibrium_network(job.network).to(distributed.device(config.device))
    metrics: dict[str, float] = {}
    for name, pairs in labelled_sets(located(job.data), config.sets).items():
        found = Watch()
        try:
            watch(network, pairs, config, found, of=name)
        finally:  # keeps the results of the pairs before one whose flow is not finite
            for table, rows in tables(found, name, config).items() if found.errors else ():
                job.tables[table] += rows
        for (part, criterion), parts in found.settled.items():
            if criterion == "lasting":
                values = distribution(torch.cat(parts), config.steps)
                metrics |= {f"{name}.{part}.{key}": value for key, value in values.items()}
        metrics[f"{name}.components"] = mean(float(components_needed(each)) for each in found.explained)
        metrics[f"{name}.residual"] = mean(residuals[-1] for residuals in found.residuals)
        if not job.arrays:
            job.arrays["maps"] = {"image": pairs[0].image1, **found.maps}
    return metrics


CONVERGENCE = Stage(
    name="delta.convergence",
    section="delta",
    case=Measured,
    settings=lambda section, case: section.load(Convergence, f"convergence.{case.network}"),
    run=measure,
)
