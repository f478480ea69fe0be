"""The `vision` section of params.yaml as dataclasses: tasks, recipes and how models are measured."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from deq_core.experiment.config import Kind, Name, Seed, require_keys
from deq_core.experiment.config.layer import StopConfig
from deq_core.experiment.config.plot import Plot
from deq_core.experiment.config.recipe import EquilibriumRecipe
from deq_core.experiment.config.recipe import JacobianPenalty as JacobianPenalty
from deq_core.experiment.config.recipe import Pretraining as Pretraining
from deq_core.experiment.data.registry import ReleasedSets
from deq_vision.baselines.params import Baseline, Boxes, Linear, Majority, Neighbours, Pixels, Position
from deq_vision.config import Classification, Detection, ModelConfig, Segmentation
from deq_vision.data.classes import CITYSCAPES, STREET, STREET_OBJECTS, VID
from deq_vision.data.mini.write import MiniSets
from deq_vision.data.scenes import LEAST_SHARE, SceneAugment
from deq_vision.data.sets.cifar import CLASSES
from deq_vision.data.transforms import CropFlip, Normalisation, ResizedCrop
from deq_vision.detection.params import Detect
from deq_vision.loss import HardPixels
from deq_vision.streaming.params import StreamEvaluate


@dataclass(frozen=True, kw_only=True)
class Classify:
    """One label an image."""

    data: Literal["cifar10", "imagenet"]
    folder: str = "."
    """Where the set is, below the folder of the data."""
    augment: Annotated[CropFlip | ResizedCrop, Kind] | None = None
    test_crop: tuple[int, int] | None = None
    """In evaluation: the shorter side that an image is brought to, and the side of the square that is cut from its
    middle, pixels; None leaves images as they are. ImageNet's differ in size and need one."""
    normalisation: Normalisation
    smoothing: float = 0.0
    """Share of the true class's weight that is spread over all classes."""
    validation_split: Literal["val", "test"] = "val"
    """Split that a network in training is measured on; CIFAR-10 as released has no val."""
    kind: Literal["classify"] = field(default="classify", repr=False)

    def __post_init__(self) -> None:
        if self.test_crop is not None and not self.test_crop[0] >= self.test_crop[1] >= 1:
            raise ValueError(f"test_crop: expected shorter side >= crop >= 1, got {self.test_crop}")


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
    validation_split: Literal["val", "test"] = "val"
    """Split that a network in training is measured on."""
    kind: Literal["segment"] = field(default="segment", repr=False)

    def __post_init__(self) -> None:
        if self.class_weights and self.labels != "cityscapes":
            raise ValueError(f"class_weights: known for cityscapes alone, got labels {self.labels}")
        if self.augment is not None and self.augment.least_share != LEAST_SHARE:
            raise ValueError(f"augment.least_share: of objects, which no pixels are, got {self.augment.least_share}")


Task = Annotated[Classify | Segment | Detect, Kind]


@dataclass(frozen=True, kw_only=True)
class Recipe(EquilibriumRecipe):
    """How a model is trained."""

    workers: int = 0
    """Processes that load and augment data, for each training process."""
    cache: bool = False
    """Whether decoded training samples stay in memory; for small sets."""
    sync_batch_norm: bool = False
    """Whether batch normalisation takes its statistics over all processes; torch has that for GPUs alone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.workers < 0:
            raise ValueError(f"recipe: workers must be at least 0, got {self.workers}")
        if self.sync_batch_norm and self.device != "cuda":
            raise ValueError(f"recipe: sync_batch_norm needs device cuda, got {self.device}")


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A task, a model and how it is trained for it."""

    task: Task
    model: ModelConfig
    recipe: Recipe

    def __post_init__(self) -> None:
        kind, classes = needed(self.task)
        head = self.model.architecture.head
        if not isinstance(head, kind):
            raise ValueError(f"model.architecture.head: a task to {self.task.kind} needs {kind.__name__}, got {head}")
        if classes not in (None, head.classes):
            raise ValueError(f"model.architecture.head.classes: the task has {classes}, got {head.classes}")


def needed(task: Task) -> tuple[type[Classification | Segmentation | Detection], int | None]:
    """The kind of head that a task needs, and its classes; None where the data say how many."""
    match task:
        case Classify():
            return Classification, CLASSES if task.data == "cifar10" else None
        case Segment():
            return Segmentation, len(CITYSCAPES if task.labels == "cityscapes" else STREET)
        case Detect():
            return Detection, len(VID if task.objects == "vid" else STREET_OBJECTS)


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Segmentation of an image from several views, whose scores are added up; see `windows.cityscapes_test`."""

    window: tuple[int, int] = (1024, 2048)
    """(h, w) of the windows that slide over it side by side, pixels."""
    scales: tuple[float, ...] = (1.0,)
    mirror: bool = False
    """Whether each window is seen mirrored too."""

    def __post_init__(self) -> None:
        if min(self.window) < 1 or not self.scales or min(self.scales) <= 0:
            raise ValueError(f"windows: expected sides of at least 1, and scales, all positive, got {self}")


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """How trained models are measured."""

    stop: StopConfig
    """Stop of the solve whose result is reported."""
    sweep: int
    """Metric and residual are also measured after each evaluation up to this one, from one solve."""
    batch_size: int = 50
    split: Literal["train", "val", "test"] = "test"
    """Settings are chosen on val; test is measured once they are. On train one sees how much is learnt by heart."""
    windows: Windows | None = None
    """Of segmentation: how an image is seen for the metrics reported; None is once and whole. The sweep always is."""
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        if min(self.sweep, self.batch_size, self.threads) < 1:
            raise ValueError(f"evaluate: expected sweep, batch_size and threads of at least 1, got {self}")


Data = Annotated[MiniSets | ReleasedSets, Kind]
OF_TASK: Mapping[type, tuple[type, ...]] = {
    Classify: (Linear, Neighbours),
    Segment: (Majority, Position, Pixels),
    Detect: (Boxes,),
}
"""Which baselines a task has."""


@dataclass(frozen=True, kw_only=True)
class Continued:
    """An experiment that begins with what another has learnt from the same seed, a head that does not fit aside."""

    experiment: Name
    start: Name


@dataclass(frozen=True, kw_only=True)
class Vision:
    """One profile of the vision experiments."""

    seeds: tuple[Seed, ...]
    trained: tuple[Name, ...]
    """Keys of `experiments` that the pipeline trains, from every seed, and measures."""
    fresh: tuple[Name, ...]
    """Those of them that begin with random weights. DVC makes its stages of this list, and cannot subtract."""
    continued: tuple[Continued, ...]
    """The others."""
    streamed: tuple[Name, ...]
    """Those of them that it measures on videos."""
    data: Data
    experiments: dict[Name, Experiment]
    baselines: dict[Name, dict[str, Baseline]]
    """By name, what the model of an experiment is compared with."""
    evaluate: dict[Name, Evaluate]
    """How the model of the experiment of that name is measured."""
    stream: dict[Name, StreamEvaluate]
    """And how on videos."""
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
        for name in self.streamed:
            if isinstance(self.experiments[name].task, Classify):
                raise ValueError(f"streamed: {name} is to classify; videos are for segmentation and detection")
        for name in self.trained:
            if self.evaluate[name].windows is not None and not isinstance(self.experiments[name].task, Segment):
                raise ValueError(f"evaluate.{name}.windows: are of segmentation alone")
        for name, baselines in self.baselines.items():
            task = self.experiments[name].task
            for key, baseline in baselines.items():
                if not isinstance(baseline, OF_TASK[type(task)]):
                    raise ValueError(f"baselines.{name}.{key}: {baseline.kind} is no baseline of a task to {task.kind}")
