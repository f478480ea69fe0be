"""Classes and preprocessing of a checkpoint, as far as it stores them or they can be inferred."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from deq_core.experiment.config import ConfigError
from deq_core.experiment.reading import read_text
from deq_vision.config import Classification, Detection, Segmentation
from deq_vision.data import classes
from deq_vision.data.classes import Colour, palette
from deq_vision.data.transforms import CIFAR, IMAGENET, Normalisation
from deq_vision.detection.params import Detect
from deq_vision.models.mdeq import MDEQ
from deq_vision.params import Classify, Segment, Task

TaskName = Literal["classify", "segment", "detect"]
Pixels = Literal["auto", "imagenet", "cifar"]
"""Normalisation of pixels that a network was trained with."""

LABEL_SETS = {len(labels): labels for labels in (classes.CITYSCAPES, classes.STREET)}
OBJECTS = {len(names): tuple(names.values()) for names in (classes.VID, classes.STREET_OBJECTS)}
IMAGENET_CROP, CIFAR_CROP = (256, 224), (32, 32)
TINY_CLASSES = 10  # classes of CIFAR-10, with images of 32 x 32 pixels, and of the mini set in its layout


@dataclass(frozen=True)
class LabelSpace:
    """Classes of a network's outputs, and preprocessing of its images."""

    task: TaskName
    names: tuple[str, ...]
    """Names of the classes; their numbers if unknown."""
    ids: tuple[int, ...]
    """Ids of the classes in files: pixel values in masks, categories of boxes."""
    colours: tuple[Colour, ...]
    """RGB colours of the classes."""
    normalisation: Normalisation
    crop: tuple[int, int] | None
    """For classification: the shorter side that images are resized to, and the side of the centre crop; None keeps
    images unchanged."""
    sides: tuple[int, int] | None = None
    """For the others: longer and shorter side that images are resized to fit within; None keeps images unchanged."""

    def own_task(self) -> Task:
        """The task for evaluating the network on your own images."""
        match self.task:
            case "classify":
                return Classify(data="own", test_crop=self.crop, normalisation=self.normalisation)
            case "segment":
                return Segment(labels="own", test_sides=self.sides, normalisation=self.normalisation)
            case "detect":
                return Detect(objects="own", test_sides=self.sides, normalisation=self.normalisation)


def label_space_of(model: MDEQ, *, pixels: Pixels = "auto", names: Path | None = None) -> LabelSpace:
    """The label space of a model: what its head stores about your own data, else inferred from the number of classes.

    For example, 19 pixel classes are taken for those of Cityscapes.

    Args:
        model: model with a head.
        pixels: normalisation in training; "auto" is the one stored in the head, else CIFAR's for ten unnamed image
            classes, and ImageNet's otherwise.
        names: file with the class names, one per line, such as CIFAR's batches.meta.txt.

    Raises:
        ConfigError: the model has no head, or `names` is not a file with one name per class.
    """
    head = model.size.head
    if head is None:
        raise ConfigError("checkpoint: the model has features only; expected one with a head")
    count = head.classes
    plain = LabelSpace("classify", numbers(count), tuple(range(count)), palette(count), IMAGENET, IMAGENET_CROP)
    match head:
        case Segmentation():
            label_space = replace(plain, task="segment", sides=head.sides)
            if head.names:
                ids, colours = head.ids or plain.ids, head.colours or plain.colours
                label_space = replace(label_space, names=head.names, ids=ids, colours=colours)
            elif (labels := LABEL_SETS.get(count)) is not None:
                label_space = replace(label_space, names=labels.names, ids=labels.ids, colours=labels.colours)
        case Detection():
            known, ids = head.names or OBJECTS.get(count, plain.names), head.ids or tuple(range(1, count + 1))
            label_space = replace(plain, task="detect", names=known, ids=ids, sides=head.sides)
        case Classification():
            tiny = count == TINY_CLASSES and not head.names and head.crop is None
            label_space = replace(plain, normalisation=CIFAR, crop=CIFAR_CROP) if tiny else plain
            if head.names or head.crop is not None:
                label_space = replace(label_space, names=head.names or label_space.names, crop=head.crop)
    if pixels != "auto":
        label_space = replace(label_space, normalisation=CIFAR if pixels == "cifar" else IMAGENET)
    elif head.pixels is not None:
        mean, std = head.pixels
        label_space = replace(label_space, normalisation=Normalisation(mean=mean, std=std))
    return label_space if names is None else replace(label_space, names=read_names(names, len(label_space.names)))


def numbers(count: int) -> tuple[str, ...]:
    """Numbered names for unnamed classes."""
    return tuple(f"class {index}" for index in range(count))


def read_names(path: Path, count: int) -> tuple[str, ...]:
    """Reads one name per line, ignoring empty lines.

    Raises:
        ConfigError: the file does not exist, or does not have `count` names.
    """
    if not path.is_file():
        raise ConfigError(f"names: {path}: no such file; expected {count} names, one a line")
    text = read_text(path, ConfigError, remedy="save it as such")
    found = tuple(line.strip() for line in text.splitlines() if line.strip())
    if len(found) != count:
        raise ConfigError(f"names: {path}: expected {count} names, one a line, got {len(found)}")
    return found
