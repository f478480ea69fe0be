"""Path independence of MDEQ: outputs from several initial states and after further evaluations."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from deq_core.experiment import distributed
from deq_core.experiment.config import Name, Names, require_keys
from deq_core.experiment.data.batches import grouped
from deq_core.experiment.data.released import located
from deq_core.experiment.study.measured import Measured
from deq_core.experiment.study.paths import Followed, Paths
from deq_core.experiment.study.problem import Problem
from deq_core.experiment.study.stage import Job, Section, Stage
from deq_vision.detection.params import Detect
from deq_vision.models.build import load
from deq_vision.models.mdeq import MDEQ
from deq_vision.params import Task
from deq_vision.tasks import Scored, batches_in_order, loss, require_head


@dataclass(frozen=True, kw_only=True)
class VisionPaths(Paths):
    """Settings of path independence for a vision network."""

    split: Literal["train", "val", "test"] = "test"


@dataclass(frozen=True, kw_only=True)
class PathStudy:
    """The networks to measure, with settings for each."""

    methods: Names = ()
    """Experiments whose networks, of all seeds, are measured."""
    shipped: Names = ()
    """Shipped checkpoints to measure, each named after the experiment with its task."""
    measure: dict[Name, VisionPaths] = field(default_factory=dict)
    """Settings by network."""

    def __post_init__(self) -> None:
        require_keys("methods, shipped", (*self.methods, *self.shipped), "measure", self.measure)


@dataclass(frozen=True, kw_only=True)
class Followable:
    """A task, and the settings of path independence on its images."""

    task: Task
    paths: VisionPaths


Settings = TypeVar("Settings", bound=Followable)


def problems(model: MDEQ, task: Scored | Detect, config: VisionPaths, data: Path) -> Iterator[Problem]:
    """The fixed-point problems of the images to measure, in batches of one size."""
    assert model.head is not None
    device = next(model.parameters()).device
    alone = batches_in_order(task, data, config.split, 1, multiple=model.size.multiple, count=config.samples)
    for samples in grouped(alone, config.batch_size, apart=lambda sample: sample.images.shape):
        images = torch.cat([sample.images for sample in samples]).to(device)
        injection = model.inject(images)

        def error(outputs: Tensor, *, samples: list[Any] = samples) -> Tensor:
            pairs = zip(outputs, samples, strict=True)
            return torch.stack([loss(task, output[None], sample.to(device)) for output, sample in pairs])

        def answer(*state: Tensor) -> Tensor:
            assert model.head is not None
            return model.head(state)

        yield Problem(
            names=[sample.names[0] for sample in samples],
            parts=[f"branch {number}" for number in range(1, len(model.size.channels) + 1)],
            f=model.map(injection),
            zero=model.start(injection),
            answer=answer,
            distance=lambda one, other: (one - other).flatten(1).square().mean(1).sqrt(),
            error=error,
        )


def measure(job: Job[Any, Settings]) -> Mapping[str, Any]:
    """Measures path independence and returns {split: `Followed.summary`}; the tables are those of `Followed.tables`.

    Distances are root mean squares over all outputs: logits and, for a detector, positions and sizes of boxes.

    Raises:
        LayoutError: the data set is missing or incomplete.
        ConfigError: its number of classes differs from that of the network's head.
        NonFiniteError: an output is not finite.
    """
    task, config = job.settings.task, job.settings.paths
    torch.set_num_threads(config.threads)
    data, model = located(job.data), load(job.network).to(distributed.device(config.device))
    require_head(task, model.size.head, data, config.split, source=job.network)
    found = Followed(config)
    with torch.no_grad():
        for problem in problems(model, task, config, data):
            found.add(problem)
    job.tables.update(found.tables(set=config.split))
    return {config.split: found.summary()}


def settings(section: Section, case: Measured) -> Followable:
    """Settings of a network."""
    return Followable(
        task=section.load(Task, f"experiments.{case.network}.task"),
        paths=section.load(VisionPaths, f"paths.measure.{case.network}"),
    )


PATHS = Stage(name="vision.paths", section="vision", case=Measured, settings=settings, run=measure)
