"""The section `vision` of params.yaml: data, experiments and the parameters of the studies of scores and streaming."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from deq_core.experiment.config import Budget, Name, Names, Seeds, require_keys
from deq_core.experiment.config.plot import Plot
from deq_vision.baselines.params import Baseline, Boxes, Linear, Majority, Neighbours, Pixels, Position
from deq_vision.data.mini.write import Data
from deq_vision.detection.params import Detect
from deq_vision.evaluate import Evaluate
from deq_vision.params import Classify, Experiment, Segment
from deq_vision.streaming.params import StreamEvaluate
from deq_vision.studies.paths import PathStudy
from deq_vision.studies.training_costs import VisionCosts

OF_TASK: Mapping[type, tuple[type, ...]] = {
    Classify: (Linear, Neighbours),
    Segment: (Majority, Position, Pixels),
    Detect: (Boxes,),
}
"""Kinds of baselines of each task."""


@dataclass(frozen=True, kw_only=True)
class Continued:
    """An experiment that starts from the weights of another with the same seed, except a head that does not fit."""

    experiment: Name
    start: Name


@dataclass(frozen=True, kw_only=True)
class Vision:
    """The section `vision` of a profile."""

    core_minutes: Budget | None = None
    seeds: Seeds
    trained: Names
    """Keys of `experiments` that the pipeline trains, with every seed, and evaluates."""
    fresh: Names
    """Those of them that start from random weights; listed because DVC cannot subtract `continued` from `trained`."""
    continued: tuple[Continued, ...]
    """The others, with the experiments that they start from."""
    streamed: Names
    """Those of them that are also evaluated on videos."""
    data: Data
    experiments: dict[Name, Experiment]
    baselines: dict[Name, dict[str, Baseline]]
    """Baselines of each experiment, by name."""
    evaluate: dict[Name, Evaluate]
    """Evaluation of each experiment's models."""
    stream: dict[Name, StreamEvaluate]
    """Evaluation of each experiment's models on videos."""
    paths: PathStudy = field(default_factory=PathStudy)
    costs: VisionCosts
    plot: Plot = field(default_factory=Plot)

    def __post_init__(self) -> None:
        for name in ("seeds", "trained", "fresh", "streamed"):
            if not getattr(self, name):
                raise ValueError(f"{name}: expected at least one")
        require_keys("trained", self.trained, "experiments", self.experiments)
        require_keys("trained", self.trained, "evaluate", self.evaluate)
        begun = (*self.fresh, *(pair.experiment for pair in self.continued))
        if sorted(begun) != sorted(set(self.trained)):
            raise ValueError(f"fresh and continued: expected the experiments of trained, each once, got {begun}")
        for number, pair in enumerate(self.continued):
            if pair.start not in self.fresh:
                raise ValueError(f"continued[{number}].start: expected one of fresh {self.fresh}, got {pair.start}")
        require_keys("streamed", self.streamed, "trained", self.trained)
        require_keys("streamed", self.streamed, "stream", self.stream)
        require_keys("baselines", self.baselines, "trained", self.trained)
        require_keys("paths.methods", self.paths.methods, "trained", self.trained)
        require_keys("paths.shipped", self.paths.shipped, "experiments", self.experiments)
        for name in self.streamed:
            task = self.experiments[name].task
            if isinstance(task, Classify):
                raise ValueError(f"streamed: {name} is to classify; videos are for segmentation and detection")
            if "own" in (getattr(task, "labels", ""), getattr(task, "objects", "")):
                raise ValueError(
                    f"streamed: {name} is for your own images; only cityscapes, street and vid have labelled videos"
                )
        for name in self.trained:
            if self.evaluate[name].windows is not None and not isinstance(self.experiments[name].task, Segment):
                raise ValueError(f"evaluate.{name}.windows: only for segmentation")
        for name, baselines in self.baselines.items():
            task = self.experiments[name].task
            for key, baseline in baselines.items():
                if not isinstance(baseline, OF_TASK[type(task)]):
                    raise ValueError(
                        f"baselines.{name}.{key}: {baseline.kind} is not a baseline for tasks to {task.kind}"
                    )
