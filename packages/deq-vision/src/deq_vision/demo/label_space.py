"""What a checkpoint's outputs mean and what its images must look like, as far as its own numbers tell."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from deq_core.experiment.config import ConfigError
from deq_core.experiment.reading import read_text
from deq_vision.config import Classification, Detection, Segmentation
from deq_vision.data import classes
from deq_vision.data.transforms import CIFAR, IMAGENET, Normalisation
from deq_vision.demo.overlay import Colour, palette
from deq_vision.models.mdeq import MDEQ

TaskName = Literal["classify", "segment", "detect"]
Pixels = Literal["auto", "imagenet", "cifar"]
"""Mean and deviation of the pixels that a network was trained with."""

LABEL_SETS = {len(labels): labels for labels in (classes.CITYSCAPES, classes.STREET)}
OBJECTS = {len(names): tuple(names.values()) for names in (classes.VID, classes.STREET_OBJECTS)}
IMAGENET_CROP, CIFAR_CROP = (256, 224), (32, 32)
TINY_CLASSES = 10  # of CIFAR-10, whose images are 32 pixels wide, and of the mini set in its layout


@dataclass(frozen=True)
class LabelSpace:
    """What the outputs of a network mean, and what its images must look like."""

    task: TaskName
    names: tuple[str, ...]
    """Of its classes; their numbers where nobody says."""
    colours: tuple[Colour, ...]
    """RGB of its classes."""
    normalisation: Normalisation
    crop: tuple[int, int]
    """Of classification: the shorter side of an image, and the side of the square that is cut from its middle."""


def label_space_of(model: MDEQ, *, pixels: Pixels = "auto", names: Path | None = None) -> LabelSpace:
    """The label space of a model, from its head: 19 classes of pixels are those of Cityscapes, and so on.

    Args:
        model: any with a head.
        pixels: how it was trained; "auto" is CIFAR's for ten classes of images and ImageNet's otherwise.
        names: a file of the classes' names, one a line, such as CIFAR's batches.meta.txt.

    Raises:
        ConfigError: the model has no head, or `names` is no file of as many names as it has classes.
    """
    head = model.size.head
    if head is None:
        raise ConfigError("checkpoint: the model has features only; expected one with a head")
    plain = LabelSpace("classify", numbers(head.classes), palette(head.classes), IMAGENET, IMAGENET_CROP)
    match head:
        case Segmentation():
            labels = LABEL_SETS.get(head.classes)
            label_space = replace(plain, task="segment")
            if labels is not None:
                label_space = replace(label_space, names=labels.names, colours=labels.colours)
        case Detection():
            label_space = replace(plain, task="detect", names=OBJECTS.get(head.classes, plain.names))
        case Classification():
            tiny = head.classes == TINY_CLASSES
            label_space = replace(plain, normalisation=CIFAR, crop=CIFAR_CROP) if tiny and head.crop is None else plain
            label_space = replace(
                label_space, names=head.names or label_space.names, crop=head.crop or label_space.crop
            )
    if pixels != "auto":
        label_space = replace(label_space, normalisation=CIFAR if pixels == "cifar" else IMAGENET)
    return label_space if names is None else replace(label_space, names=read_names(names, len(label_space.names)))


def numbers(count: int) -> tuple[str, ...]:
    """Names of classes that have none."""
    return tuple(f"class {index}" for index in range(count))


def read_names(path: Path, count: int) -> tuple[str, ...]:
    """One name a line; empty lines do not count.

    Raises:
        ConfigError: there is no such file, or it has more or fewer names.
    """
    if not path.is_file():
        raise ConfigError(f"names: {path}: no such file; expected {count} names, one a line")
    text = read_text(path, ConfigError, remedy="save it as such")
    found = tuple(line.strip() for line in text.splitlines() if line.strip())
    if len(found) != count:
        raise ConfigError(f"names: {path}: expected {count} names, one a line, got {len(found)}")
    return found
