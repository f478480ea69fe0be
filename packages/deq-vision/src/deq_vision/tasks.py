"""What depends on the task: data, heads, loss and metric."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from deq_core.experiment.config import ConfigError
from deq_core.experiment.data.batches import SampleSet, Spaced, grouped, in_order
from deq_vision.config import Head
from deq_vision.data import classes
from deq_vision.data.batches import (
    AnnotatedBatch,
    LabelledBatch,
    SegmentedBatch,
    annotated_batches,
    labelled_batches,
    segmented_batches,
    size_of,
)
from deq_vision.data.classes import LabelSet
from deq_vision.data.samples import IGNORE_INDEX
from deq_vision.data.scenes import fit_segmented
from deq_vision.data.sets.cifar import Cifar10
from deq_vision.data.sets.cityscapes import Cityscapes
from deq_vision.data.sets.imagenet import ImageNet, folder_of, synsets_of
from deq_vision.data.sets.own.classes import OwnClasses, classes_of
from deq_vision.data.sets.own.labels import labels_of
from deq_vision.data.sets.own.masks import OwnMasks
from deq_vision.data.transforms import centre_cropped
from deq_vision.detection import task as detect
from deq_vision.detection.params import Detect
from deq_vision.loss import classification_loss, segmentation_loss
from deq_vision.metrics import correct
from deq_vision.params import Classify, Recipe, Segment, needed
from deq_vision.windows import pixel_classes

Split = Literal["train", "val", "test"]
Scored = Classify | Segment
"""Tasks whose outputs are class scores."""
LABELS: Mapping[str, LabelSet] = {"cityscapes": classes.CITYSCAPES, "street": classes.STREET}


def samples(task: Scored | Detect, data: Path, split: Split) -> SampleSet[Any]:
    """The samples of a split of the task's data set.

    Raises:
        LayoutError: the set is missing or incomplete.
    """
    root = data / task.folder
    if isinstance(task, Detect):
        return detect.samples(task, data, split)
    if isinstance(task, Segment):
        if task.labels == "own":
            return OwnMasks(root, split)
        return Cityscapes(root, split, labels=LABELS[task.labels])
    if task.data == "cifar10":
        return Cifar10(root, split)
    if task.data == "own":
        return OwnClasses(root, split)
    return ImageNet(root, imagenet_split(split))


def label_set(task: Segment, data: Path) -> LabelSet:
    """The classes of a segmentation task.

    Raises:
        LayoutError, ConfigError: those of your own masks are missing.
    """
    return labels_of(data / task.folder).label_set() if task.labels == "own" else LABELS[task.labels]


def own_names(task: Scored | Detect, data: Path) -> tuple[str, ...] | None:
    """Class names of your own data, in the order of a network's outputs; None for other data.

    Raises:
        LayoutError, FileFormatError, ConfigError: the names are missing.
    """
    match task:
        case Classify(data="own"):
            return tuple(classes_of(data / task.folder))
        case Segment(labels="own"):
            return label_set(task, data).names
        case Detect(objects="own"):
            return detect.names_of(task, data)
    return None


def imagenet_split(split: Split) -> Literal["train", "val"]:
    """The folder of a split. Test uses val, because the labels of ImageNet's test split are not published."""
    return "train" if split == "train" else "val"


def require_head(
    task: Scored | Detect, head: Head | None, data: Path, split: Split, *, source: Path | str | None = None
) -> None:
    """Checks that a head has exactly one output for each class of a split of the task's data.

    Fewer classes than outputs are refused too: classes are numbered within their set, so if some are missing, the
    others have other numbers than the network learnt.

    Args:
        task: task of the network.
        head: head of the network.
        data: folder of the data sets.
        split: split to check.
        source: path or name of a trained network; None for a network still to be trained.

    Raises:
        LayoutError: the set is missing or lacks classes.
        ConfigError: the head is of another kind, or has another number of classes.
    """
    kind, count = needed(task)
    names = own_names(task, data)
    match task:
        case _ if names is not None:
            count, whose = len(names), str(data / task.folder)
        case Classify(data="imagenet"):
            where = data / task.folder, imagenet_split(split)
            count, whose = len(synsets_of(*where)), str(folder_of(*where))
        case Classify():
            whose = f"task.data {task.data}"
        case Segment():
            whose = f"task.labels {task.labels}"
        case Detect():
            whose = f"task.objects {task.objects}"
    if isinstance(head, kind) and head.classes == count:
        if names is None or head.names in ((), names):
            return
        raise ConfigError(
            f"{source or 'model.architecture.head.names'}: expected the classes of {whose}, {', '.join(names)}, got "
            f"{', '.join(head.names)}; choose the folder that the network was trained with, or another network"
        )
    got = "a network without a head" if head is None else f"{type(head).__name__} with {head.classes}"
    if source is not None:
        raise ConfigError(
            f"{source}: expected a head for {kind.__name__} with {count} classes, those of {whose}, got {got}; choose "
            f"the task and the folder (task.folder) that it was trained with, or another network"
        )
    raise ConfigError(
        f"model.architecture.head.classes: expected {kind.__name__} with {count} classes, those of {whose}, got {got}; "
        f"set it to {count}, or task.folder to the data that it is for"
    )


def training_batches(
    task: Scored | Detect, recipe: Recipe, data: Path, seed: int, *, multiple: int
) -> Callable[[int], Iterator[Any]]:
    """Returns a function from a step to the training batches from that step on, augmented and normalised.

    Height and width of images must be multiples of `multiple`; for detection they are padded.
    """
    found = samples(task, data, "train")
    found = list(in_order(found)) if recipe.cache else found
    shared = {
        "batch_size": recipe.micro_batch,
        "normalisation": task.normalisation,
        "seed": seed,
        "workers": recipe.workers,
    }
    match task:
        case Classify():
            return labelled_batches(found, augment=task.augment, **shared)
        case Segment():
            return segmented_batches(found, augment=task.augment, **shared)
        case Detect():
            return annotated_batches(found, augment=task.augment, multiple=multiple, **shared)


def batches_in_order(
    task: Scored | Detect, data: Path, split: Split, batch_size: int, *, multiple: int, count: int | None = None
) -> Iterator[Any]:
    """Batches of all samples of a split, or of `count` evenly spaced ones; scenes in a batch have one size."""
    found = samples(task, data, split)
    each = in_order(found if count is None else Spaced(found, count))
    collate: Callable[..., Any]
    match task:
        case Classify():
            if task.test_crop is not None:
                each = map(partial(centre_cropped, crop=task.test_crop), each)
            return map(partial(LabelledBatch.collate, normalisation=task.normalisation), grouped(each, batch_size))
        case Segment():
            if task.test_sides is not None:
                each = map(partial(fit_segmented, sides=task.test_sides), each)
            collate = SegmentedBatch.collate
        case Detect():
            each = map(partial(detect.fit, sides=task.test_sides, smooth=task.objects == "own"), each)
            collate = AnnotatedBatch.collate
    groups = grouped(each, batch_size, apart=size_of)
    return map(partial(collate, normalisation=task.normalisation, multiple=multiple), groups)


def loss(task: Scored | Detect, outputs: Tensor, batch: Any) -> Tensor:
    """Mean training loss of the task, a scalar."""
    if isinstance(task, Detect):
        return detect.loss(task, outputs, batch)
    if isinstance(task, Classify):
        return classification_loss(outputs, batch.labels, smoothing=task.smoothing)
    # The release aligns corners in training but not in its test. Training on your own masks matches evaluation.
    released = task.labels != "own"
    return segmentation_loss(outputs, batch.labels, weights=class_weights(task), align_corners=released, hard=task.hard)


def class_weights(task: Segment) -> Tensor | None:
    """Weights of the classes in the mean loss, (classes,); None if all are equal."""
    return torch.tensor(LABELS[task.labels].weights) if task.class_weights else None


def training_metric(task: Scored | Detect, outputs: Tensor, batch: Any) -> Tensor:
    """Share of the images, labelled pixels or objects that are predicted correctly, a scalar."""
    if isinstance(task, Detect):
        return detect.training_metric(task, outputs, batch)
    if isinstance(task, Classify):
        return correct(outputs, batch.labels).float().mean()
    with torch.no_grad():
        right = predicted_classes(outputs, batch.labels) == batch.labels
        right = right[batch.labels != IGNORE_INDEX].float()
        return right.mean() if len(right) else right.sum()


def predicted_classes(logits: Tensor, labels: Tensor) -> Tensor:
    """int64 (B, H, W), the predicted class of every pixel of the labels; see `windows.pixel_classes`."""
    return pixel_classes(logits, labels.shape[1:])


def headline(task: Scored | Detect) -> str:
    """The name of the task's headline metric."""
    if isinstance(task, Detect):
        return detect.HEADLINE
    return "top1" if isinstance(task, Classify) else "miou"
