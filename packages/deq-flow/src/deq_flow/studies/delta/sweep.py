"""DeltaDEQ (Wang et al., NeurIPS 2024) on flow networks: error against work by threshold, set, start and solver."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import torch
from torch import Tensor

from deq_core.experiment import distributed
from deq_core.experiment.config import ConfigError, Once
from deq_core.experiment.config.delta import Variant
from deq_core.experiment.data.released import located
from deq_core.experiment.study.delta import sweep_configs
from deq_core.experiment.study.measured import Measured
from deq_core.experiment.study.stage import Job, Stage
from deq_core.experiment.tables import Row, numbers
from deq_flow.data.samples import SampleSet
from deq_flow.evaluation.evaluate import labelled_sets
from deq_flow.evaluation.sets import SequenceSet
from deq_flow.models import DEQFlow
from deq_flow.studies.delta.run import Run, Start
from deq_flow.studies.equilibrium import encode, equilibrium_network


@dataclass(frozen=True, kw_only=True)
class Extent:
    """The part of a set that is measured."""

    sequences: int | None = None
    """Number of videos (or single pairs) to take from the start of the set; None is all."""
    frames: int | None = None
    """Number of pairs to take from the start of a video; None is all."""

    def __post_init__(self) -> None:
        for name, value in (("sequences", self.sequences), ("frames", self.frames)):
            if value is not None and value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}")


@dataclass(frozen=True, kw_only=True)
class Validation(Extent):
    """The pairs on which thresholds and numbers of steps are chosen."""

    set: str


@dataclass(frozen=True, kw_only=True)
class Part(Extent):
    """The part of a set that is measured, and the starts of its frames."""

    starts: Once[Start] = ("cold",)
    """Starts of the solves; all but cold need a set of videos."""
    validation: Validation | None = None
    """Pairs that are measured in the same way; without them thresholds are chosen on the set itself, as the report
    says."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.starts:
            raise ValueError("starts: expected at least 1, got none")


@dataclass(frozen=True, kw_only=True)
class Example:
    """One solve of a sweep."""

    set: str
    variant: str
    threshold: float


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Settings of the sweep: error of flow networks against work with the delta rule."""

    sets: dict[str, Part]
    """Sets by their names in `evaluation.sets.SETS`."""
    variants: dict[str, Variant]
    steps: Once[int]
    """Numbers of evaluations of the solves at threshold 0 to which thresholds are compared."""
    skip: tuple[str, ...] = ("flow_head.conv2",)
    """Layers of the update block that stay dense; the release's choice."""
    batch_size: int = 1
    """Number of scenes (or single pairs) in a batch. Use 1 with a tolerance, as a batch runs until all converge."""
    example: Example
    """Solve whose maps are kept, for the last pair of the first scene."""
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1, got {self.batch_size}")
        for part in self.sets.values():
            sweep_configs(self.variants, self.steps, part.starts)
        variant = self.variants.get(self.example.variant)
        if (
            variant is None
            or self.example.threshold not in variant.rule.thresholds
            or self.example.set not in self.sets
        ):
            raise ValueError(f"example: expected a set, a variant and one of its thresholds, got {self.example}")


def scenes(pairs: SampleSet, extent: Extent) -> list[range]:
    """Indices of the pairs of each video; a single pair is a video of one pair."""
    if isinstance(pairs, SequenceSet):
        return [scene[: extent.frames] for scene in islice(pairs.sequences().values(), extent.sequences)]
    return [range(index, index + 1) for index in range(len(pairs))][: extent.sequences]


def groups(pairs: SampleSet, extent: Extent, batch_size: int) -> Iterator[list[range]]:
    """Groups of up to `batch_size` consecutive scenes with equal numbers of pairs and images of one shape."""
    group: list[range] = []
    kind = None
    for scene in scenes(pairs, extent):
        found = (len(scene), pairs[scene[0]].image1.shape)
        if group and (len(group) == batch_size or found != kind):
            yield group
            group = []
        group.append(scene)
        kind = found
    if group:
        yield group


def sweep(
    model: DEQFlow, runs: Sequence[Run], name: str, pairs: SampleSet, extent: Extent, *, batch_size: int = 1
) -> None:
    """Makes all runs on the set `name`; each pair is encoded once for all of them.

    Raises:
        ConfigError: a run reuses states, and the set has no videos.
        NonFiniteError: the flow of a pair is not finite in a run; the runs have the results of the pairs before.
    """
    starts = dict.fromkeys(run.config.start for run in runs)
    if not isinstance(pairs, SequenceSet) and set(starts) != {"cold"}:
        raise ConfigError(f"starts: the single pairs of {name} start cold, got {', '.join(starts)}")
    first: list[Tensor | None] = []
    for group in groups(pairs, extent, batch_size):
        for run in runs:
            run.begin()
        for indices in zip(*group, strict=True):
            samples = [pairs[index] for index in indices]
            pair, padding = encode(model, samples, of=name)
            for run in runs:
                run.solve(pair, padding, samples, of=name)
        first = first or [run.example for run in runs]
    for run, maps in zip(runs, first, strict=True):
        run.example = maps


def measure(job: Job[Measured, Sweep]) -> Mapping[str, float]:
    """Measures an equilibrium network with the delta rule.

    The tables are `sweep` (one row for each set, split and run), `samples` (one for each pair), `layers` and
    `evaluations`; the arrays are `maps`. Rows of the split "validation" are of the pairs that thresholds are chosen on.

    Returns:
        {"set.variant.start.threshold.steps.quantity": value} of epe, f1_all, macs_saved and release_saved, on the test
        split.
    """
    config, tables = job.settings, job.tables
    torch.set_num_threads(config.threads)
    network = equilibrium_network(job.network).to(distributed.device(config.device))
    for name, part in config.sets.items():
        splits: dict[str, tuple[str, Extent]] = {"test": (name, part)}
        if part.validation is not None:
            splits["validation"] = part.validation.set, part.validation
        for split, (source, extent) in splits.items():
            (pairs,) = labelled_sets(located(job.data), [source]).values()
            chosen = sweep_configs(config.variants, config.steps, part.starts)
            runs = [Run(network, each, config.skip) for each in chosen]
            place: Row = {"set": name, "split": split}
            try:
                sweep(network, runs, source, pairs, extent, batch_size=config.batch_size)
            finally:  # keeps the rows of the pairs before one whose flow is not finite
                tables["samples"] += [{**place, **row} for run in runs for row in run.by_sample()]
            tables["sweep"] += [{**place, **run.row(source)} for run in runs]
            tables["layers"] += [{**place, **row} for run in runs for row in run.by_layer()]
            tables["evaluations"] += [{**place, **row} for run in runs for row in run.by_evaluation()]
            if (name, split) == (config.example.set, "test"):
                job.arrays["maps"] = example(runs, pairs, config)
    return named([row for row in tables["sweep"] if row["split"] == "test"])


def example(runs: Sequence[Run], pairs: SampleSet, config: Sweep) -> dict[str, Tensor]:
    """The image of the last pair of the first scene, and maps of the cells that still change, by the solve's start."""
    chosen = config.example
    maps = {
        run.config.start: run.example
        for run in runs
        if (run.config.variant, run.config.threshold) == (chosen.variant, chosen.threshold) and run.example is not None
    }
    return {"image": pairs[scenes(pairs, config.sets[chosen.set])[0][-1]].image1, **maps}


def named(rows: Sequence[Row]) -> dict[str, float]:
    """The main metrics of the rows of a sweep, by one name each."""
    found: dict[str, float] = {}
    for row in rows:
        case = f"{row['set']}.{row['variant']}.{row['start']}.{row['threshold']:g}.{row['max_steps']}"
        known = (key for key in ("epe", "f1_all", "macs_saved", "release_saved") if key in row)
        found |= {f"{case}.{key}": numbers([row], key)[0] for key in known}
    return found


SWEEP = Stage(
    name="delta.sweep",
    section="delta",
    case=Measured,
    settings=lambda section, case: section.load(Sweep, f"sweep.{case.network}"),
    run=measure,
)
