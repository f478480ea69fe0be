"""DeltaDEQ (Wang et al., NeurIPS 2024) on flow networks: thresholds, sets, starts and solvers; error against work."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import torch
from torch import Tensor

from deq_core.experiment.config import ConfigError
from deq_core.experiment.config.delta import Variant
from deq_core.experiment.data.released import located
from deq_core.experiment.study.delta import RunConfig, sweep_configs
from deq_core.experiment.study.stage import Job, Stage
from deq_core.experiment.tables import Row, numbers
from deq_flow.data.samples import SampleSet
from deq_flow.evaluation.evaluate import labelled_sets
from deq_flow.evaluation.sets import SETS, SequenceSet
from deq_flow.models import DEQFlow
from deq_flow.studies.delta_run import Run, Start
from deq_flow.studies.equilibrium import encode, equilibrium_network
from deq_flow.studies.measured import Measured


@dataclass(frozen=True, kw_only=True)
class Part:
    """What of a set is measured, and how its frames start."""

    starts: tuple[Start, ...] = ("cold",)
    """All but cold need a set of videos."""
    sequences: int | None = None
    """The first so many videos (or single pairs) of the set; None takes all."""
    frames: int | None = None
    """The first so many pairs of a video; None takes all."""

    def __post_init__(self) -> None:
        for name, value in (("sequences", self.sequences), ("frames", self.frames), ("starts", len(self.starts))):
            if value is not None and value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}")


@dataclass(frozen=True, kw_only=True)
class Example:
    """One solve of a sweep."""

    set: str
    variant: str
    threshold: float


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Error of flow networks against the work that the delta rule leaves."""

    sets: dict[str, Part]
    """By names of `evaluation.sets.SETS`."""
    variants: dict[str, Variant]
    dense_steps: tuple[int, ...]
    """Evaluations of the dense solves that the delta rule is compared with."""
    skip: tuple[str, ...] = ("flow_head.conv2",)
    """Layers of the update block that stay dense; the release's choice."""
    batch_size: int = 1
    """Scenes (or single pairs) solved together. With a tolerance take 1: a batch goes on until all are done."""
    example: Example
    """Whose maps are kept: those of the last pair of the first scene."""
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1, got {self.batch_size}")
        variant = self.variants.get(self.example.variant)
        if (
            variant is None
            or self.example.threshold not in variant.rule.thresholds
            or self.example.set not in self.sets
        ):
            raise ValueError(f"example: expected a set, a variant and one of its thresholds, got {self.example}")


def run_configs(config: Sweep, starts: Sequence[Start]) -> list[RunConfig[Start]]:
    """What is measured on a set: each solver densely after some numbers of steps, then each variant's thresholds."""
    return sweep_configs(config.variants, config.dense_steps, starts, without_memories="reuse")


def scenes(pairs: SampleSet, part: Part) -> list[range]:
    """Indices of the pairs of each video; single pairs are videos of one."""
    if isinstance(pairs, SequenceSet):
        return [scene[: part.frames] for scene in islice(pairs.sequences().values(), part.sequences)]
    if set(part.starts) != {"cold"}:
        raise ConfigError(f"starts: single pairs start cold, got {', '.join(part.starts)}")
    return [range(index, index + 1) for index in range(len(pairs))][: part.sequences]


def groups(pairs: SampleSet, part: Part, batch_size: int) -> Iterator[list[range]]:
    """Up to `batch_size` consecutive scenes of as many pairs, whose images have one shape."""
    group: list[range] = []
    kind = None
    for scene in scenes(pairs, part):
        found = (len(scene), pairs[scene[0]].image1.shape)
        if group and (len(group) == batch_size or found != kind):
            yield group
            group = []
        group.append(scene)
        kind = found
    if group:
        yield group


def sweep(model: DEQFlow, runs: Sequence[Run], name: str, pairs: SampleSet, config: Sweep) -> None:
    """Every run on the set `name`; each pair is encoded once for all of them.

    Raises:
        NonFiniteError: the flow of a pair is not finite in one of the runs, which have seen the pairs before.
    """
    first: list[Tensor | None] = []
    for group in groups(pairs, config.sets[name], config.batch_size):
        for run in runs:
            run.begin()
        for indices in zip(*group, strict=True):
            samples = [pairs[index] for index in indices]
            pair, padding = encode(model, samples, SETS[name].padding)
            for run in runs:
                run.solve(pair, padding, samples, of=name)
        first = first or [run.example for run in runs]
    for run, maps in zip(runs, first, strict=True):
        run.example = maps


def measure(job: Job[Measured, Sweep]) -> Mapping[str, float]:
    """Measures an equilibrium network under the delta rule.

    The tables: `sweep` (a row a set and run), `samples` (a row a pair), `layers` and `evaluations`; the arrays `maps`.

    Returns:
        {"set.variant.start.threshold.quantity": value} of epe, macs_saved and release_saved.
    """
    config, tables = job.settings, job.tables
    torch.set_num_threads(config.threads)
    network = equilibrium_network(job.network).to(config.device)
    for name, pairs in labelled_sets(located(job.data), tuple(config.sets)).items():
        runs = [Run(network, each, config.skip) for each in run_configs(config, config.sets[name].starts)]
        try:
            sweep(network, runs, name, pairs, config)
        finally:  # those of the pairs before one whose flow is not finite are kept
            tables["samples"] += [row for run in runs for row in run.by_sample(name)]
        tables["sweep"] += [run.row(name) for run in runs]
        tables["layers"] += [row for run in runs for row in run.by_layer(name)]
        tables["evaluations"] += [row for run in runs for row in run.by_evaluation(name)]
        if name == config.example.set:
            job.arrays["maps"] = example(runs, pairs, config)
    return named(tables["sweep"])


def example(runs: Sequence[Run], pairs: SampleSet, config: Sweep) -> dict[str, Tensor]:
    """The last pair of the first scene, and by the start of its solve, which cells still changed."""
    chosen = config.example
    maps = {
        run.config.start: run.example
        for run in runs
        if (run.config.variant, run.config.threshold) == (chosen.variant, chosen.threshold) and run.example is not None
    }
    return {"image": pairs[scenes(pairs, config.sets[chosen.set])[0][-1]].image1, **maps}


def named(rows: Sequence[Row]) -> dict[str, float]:
    """The main numbers of the rows of a sweep under one name each."""
    found: dict[str, float] = {}
    for row in rows:
        how = f"dense-{row['max_steps']}" if row["threshold"] is None else f"{row['threshold']:g}"
        for key in ("epe", "f1_all", "macs_saved", "release_saved"):
            if key in row:
                found[f"{row['set']}.{row['variant']}.{row['start']}.{how}.{key}"] = numbers([row], key)[0]
    return found


SWEEP = Stage(
    name="delta.sweep",
    section="delta",
    case=Measured,
    settings=lambda section, case: section.load(Sweep, f"sweep.{case.network}"),
    run=measure,
)
