"""Tasks, recipes and experiments in the section `vision` of params.yaml."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from deq_core.experiment.config import Kind
from deq_core.experiment.config.recipe import EquilibriumRecipe
from deq_core.experiment.config.recipe import JacobianPenalty as JacobianPenalty
from deq_core.experiment.config.recipe import Pretraining as Pretraining
from deq_vision.config import Classification, Detection, ModelConfig, Segmentation
from deq_vision.data.classes import CITYSCAPES, STREET, STREET_OBJECTS, VID
from deq_vision.data.scenes import LEAST_SHARE, SceneAugment, require_sides
from deq_vision.data.sets.cifar import CLASSES
from deq_vision.data.transforms import CropFlip, Normalisation, ResizedCrop
from deq_vision.detection.params import Detect
from deq_vision.loss import HardPixels


@dataclass(frozen=True, kw_only=True)
class Classify:
    """Image classification."""

    data: Literal["cifar10", "imagenet", "own"]
    """Format of the data: files of CIFAR-10, ImageNet's folders, or your own folder of images for each class."""
    folder: str = "."
    """Folder of the data set, relative to that of the data."""
    augment: Annotated[CropFlip | ResizedCrop, Kind] | None = None
    test_crop: tuple[int, int] | None = None
    """Evaluation crop: the shorter side that images are resized to, and the side of the centre crop, pixels. None keeps
    images unchanged. ImageNet's differ in size and need a crop."""
    normalisation: Normalisation
    smoothing: float = 0.0
    """Label smoothing: share of the true class's weight that is spread over all classes."""
    validation_split: Literal["val", "test"] = "val"
    """Split measured during training; CIFAR-10 as released has no val."""
    kind: Literal["classify"] = field(default="classify", repr=False)

    def __post_init__(self) -> None:
        if self.test_crop is not None and not self.test_crop[0] >= self.test_crop[1] >= 1:
            raise ValueError(f"test_crop: expected shorter side >= crop >= 1, got {self.test_crop}")


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Semantic segmentation of frames in Cityscapes' layout or of your own images."""

    labels: Literal["cityscapes", "street", "own"]
    """The 19 classes of Cityscapes, the eight of the mini set, or those of your own masks, named in labels.yaml."""
    folder: str = "."
    augment: SceneAugment | None = None
    test_sides: tuple[int, int] | None = None
    """For your own masks: longer and shorter side that an image and its mask are resized to fit within in evaluation,
    pixels; None keeps them unchanged."""
    normalisation: Normalisation
    class_weights: bool = False
    """Whether the loss weights classes as the release does; only Cityscapes' 19 classes have weights."""
    hard: HardPixels | None = None
    """Online hard example mining, which restricts the loss to uncertain pixels; None uses all pixels."""
    validation_split: Literal["val", "test"] = "val"
    """Split measured during training."""
    kind: Literal["segment"] = field(default="segment", repr=False)

    def __post_init__(self) -> None:
        require_sides(self.test_sides)
        if self.test_sides is not None and self.labels != "own":
            raise ValueError(f"test_sides: only for labels own, got labels {self.labels}")
        if self.class_weights and self.labels != "cityscapes":
            raise ValueError(f"class_weights: only known for labels cityscapes, got labels {self.labels}")
        if self.augment is not None and self.augment.least_share != LEAST_SHARE:
            raise ValueError(f"augment.least_share: only for objects, got {self.augment.least_share}")


Task = Annotated[Classify | Segment | Detect, Kind]


@dataclass(frozen=True, kw_only=True)
class Recipe(EquilibriumRecipe):
    """Training settings."""

    workers: int = 0
    """Number of processes that load and augment data, for each training process."""
    cache: bool = False
    """Whether decoded training samples stay in memory; for small sets."""
    sync_batch_norm: bool = False
    """Whether batch normalisation takes its statistics over all processes; in torch on GPUs only."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.workers < 0:
            raise ValueError(f"recipe: workers must be at least 0, got {self.workers}")
        if self.sync_batch_norm and self.device != "cuda":
            raise ValueError(f"recipe: sync_batch_norm needs device cuda, got {self.device}")


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A task, a model, and the recipe of its training."""

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
    """The kind of head that a task needs, and its number of classes; None if the data determine it."""
    match task:
        case Classify():
            return Classification, CLASSES if task.data == "cifar10" else None
        case Segment():
            return Segmentation, {"cityscapes": len(CITYSCAPES), "street": len(STREET)}.get(task.labels)
        case Detect():
            return Detection, {"vid": len(VID), "street": len(STREET_OBJECTS)}.get(task.objects)
