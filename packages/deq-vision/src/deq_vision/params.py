"""The `vision` section of params.yaml as dataclasses: tasks, recipes and how models are measured."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from deq_core.experiment.config import Kind
from deq_core.experiment.optim import OptimConfig
from deq_core.experiment.solving import StopConfig
from deq_core.experiment.training import Every
from deq_vision.config import ModelConfig
from deq_vision.data.mini_digits import MiniDigitsConfig
from deq_vision.data.mini_street import MiniStreetConfig
from deq_vision.data.scenes import SceneAugment
from deq_vision.data.transforms import CropFlip, Normalisation, ResizedCrop
from deq_vision.detect_params import Detect
from deq_vision.losses import HardPixels
from deq_vision.stream_params import StreamEvaluate


@dataclass(frozen=True, kw_only=True)
class Classify:
    """One label an image."""

    data: Literal["cifar10", "imagenet"]
    folder: str = "."
    """Where the set is, below the folder of the data."""
    augment: Annotated[CropFlip | ResizedCrop, Kind] | None = None
    normalisation: Normalisation
    smoothing: float = 0.0
    """Share of the true class's weight that is spread over all classes."""
    watched: Literal["val", "test"] = "val"
    """Split that training is watched on; CIFAR-10 as released has no val."""
    kind: Literal["classify"] = field(default="classify", repr=False)


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One label a pixel, of frames in Cityscapes' layout."""

    labels: Literal["cityscapes", "street"]
    """The 19 classes of Cityscapes, or the eight of the mini set."""
    folder: str = "."
    augment: SceneAugment | None = None
    normalisation: Normalisation
    class_weights: bool = False
    """Whether the classes count as in the release; Cityscapes' 19 alone have weights."""
    hard: HardPixels | None = None
    """Only the pixels that the network is unsure of count."""
    watched: Literal["val", "test"] = "val"
    """Split that training is watched on."""
    kind: Literal["segment"] = field(default="segment", repr=False)

    def __post_init__(self) -> None:
        if self.class_weights and self.labels != "cityscapes":
            raise ValueError(f"class_weights: known for cityscapes alone, got labels {self.labels}")


Task = Annotated[Classify | Segment | Detect, Kind]


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """The first updates: a few applications of f, unrolled, instead of a solve."""

    steps: int
    """Updates."""
    depth: tuple[int, int]
    """Least and most applications; each update draws its own, so that the network is good after any."""

    def __post_init__(self) -> None:
        if self.steps < 0 or not 1 <= self.depth[0] <= self.depth[1]:
            raise ValueError(f"pretraining: expected steps of at least 0 and 1 <= least <= most, got {self}")


@dataclass(frozen=True, kw_only=True)
class JacobianPenalty:
    """Regularisation of the Jacobian at the solution (Bai, Koltun & Kolter, ICML 2021)."""

    weight: float
    chance: float = 1.0
    """Probability that an update has the penalty."""
    pretraining_weight: float = 0.0
    """Weight while pretraining."""
    growth: float = 0.0
    """Added to the weight after each `growth_every` updates that follow the pretraining."""
    growth_every: int = 1
    until: int | None = None
    """Update from which on there is no penalty."""
    probes: int = 1
    """Random vectors of Hutchinson's estimate."""

    def __post_init__(self) -> None:
        if self.weight < 0 or self.pretraining_weight < 0 or not 0 <= self.chance <= 1:
            raise ValueError(f"jacobian: expected weights of at least 0 and a chance from 0 to 1, got {self}")
        if self.growth_every < 1 or self.probes < 1:
            raise ValueError(f"jacobian: expected growth_every and probes of at least 1, got {self}")

    def at(self, step: int, pretraining: int) -> float:
        """The weight at update `step`, counted from 0, after `pretraining` updates of pretraining."""
        if self.until is not None and step >= self.until:
            return 0.0
        if step < pretraining:
            return self.pretraining_weight
        return self.weight + self.growth * ((step - pretraining) // self.growth_every)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a model is trained."""

    steps: int
    batch_size: int
    """Samples of one update, over all processes and accumulated batches."""
    optim: OptimConfig
    pretraining: Pretraining | None = None
    jacobian: JacobianPenalty | None = None
    jitter: tuple[int, int] = (0, 0)
    """Least and greatest random change of the solve's evaluations, drawn for each update that has a penalty."""
    every: Every = field(default_factory=Every)
    device: Literal["cpu", "cuda"] = "cpu"
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    processes: int = 1
    accumulate: int = 1
    ema: float | None = None
    threads: int = 1
    """CPU threads of each process; part of the recipe because results are bitwise equal only at an equal count."""
    workers: int = 0
    cache: bool = False
    """Whether decoded training samples stay in memory; for small sets."""

    def __post_init__(self) -> None:
        counts = ("steps", "batch_size", "processes", "accumulate", "threads")
        small = [f"{name} {getattr(self, name)}" for name in counts if getattr(self, name) < 1]
        if small or self.workers < 0:
            raise ValueError(
                f"recipe: expected {', '.join(counts)} of at least 1 and workers of at least 0, got "
                f"{', '.join([*small, f'workers {self.workers}'])}"
            )
        if self.batch_size % (self.processes * self.accumulate):
            raise ValueError(
                f"recipe: batch_size {self.batch_size} is not a multiple of processes x accumulate = "
                f"{self.processes} x {self.accumulate}: their batches must be of one size"
            )
        if self.jitter[0] > self.jitter[1]:
            raise ValueError(f"recipe: jitter must be (least, greatest), got {self.jitter}")

    @property
    def micro_batch(self) -> int:
        """Samples that one process passes through the network at a time."""
        return self.batch_size // (self.processes * self.accumulate)

    @property
    def unrolled_updates(self) -> int:
        """Updates of pretraining."""
        return 0 if self.pretraining is None else self.pretraining.steps


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A task, a model and how it is trained for it."""

    task: Task
    model: ModelConfig
    recipe: Recipe


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """How trained models are measured."""

    stop: StopConfig
    """Stop of the solve whose result is reported."""
    sweep: int
    """Metric and residual are also measured after each evaluation up to this one, from one solve."""
    batch_size: int = 50
    split: Literal["val", "test"] = "test"
    """Settings are chosen on val; test is measured once they are."""
    threads: int = 1


@dataclass(frozen=True, kw_only=True)
class MiniSets:
    """The embedded data sets."""

    digits: MiniDigitsConfig = field(default_factory=MiniDigitsConfig)
    street: MiniStreetConfig = field(default_factory=MiniStreetConfig)


@dataclass(frozen=True, kw_only=True)
class Vision:
    """One profile of the vision experiments."""

    seeds: tuple[int, ...]
    data: MiniSets
    experiments: dict[str, Experiment]
    evaluate: dict[str, Evaluate]
    """How the model of the experiment of that name is measured."""
    stream: dict[str, StreamEvaluate] = field(default_factory=dict)
    """And how on videos."""

    def __post_init__(self) -> None:
        if not self.seeds:
            raise ValueError("seeds: expected at least one seed")
        if unmeasured := sorted(self.experiments.keys() - self.evaluate.keys()):
            raise ValueError(f"evaluate: missing for the experiments {', '.join(unmeasured)}")
