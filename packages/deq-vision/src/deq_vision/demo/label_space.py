"""What a checkpoint's outputs mean and what its images must look like, as far as its own numbers tell."""

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
    ids: tuple[int, ...]
    """Of its classes in files: values of pixels in masks, categories of boxes."""
    colours: tuple[Colour, ...]
    """RGB of its classes."""
    normalisation: Normalisation
    crop: tuple[int, int] | None
    """Of classification: the shorter side of an image, and the side of the square that is cut from its middle; None
    leaves images as they are."""
    sides: tuple[int, int] | None = None
    """Of the others: what an image's longer and shorter side are brought to at most; None leaves images as they are."""

    def own_task(self) -> Task:
        """The task to measure the network by on pictures of one's own."""
        match self.task:
            case "classify":
                return Classify(data="own", test_crop=self.crop, normalisation=self.normalisation)
            case "segment":
                return Segment(labels="own", test_sides=self.sides, normalisation=self.normalisation)
            case "detect":
                return Detect(objects="own", test_sides=self.sides, normalisation=self.normalisation)


def label_space_of(model: MDEQ, *, pixels: Pixels = "auto", names: Path | None = None) -> LabelSpace:
    """The label space of a model, from what its head keeps of one's own data, or else from its number of classes.

    19 classes of pixels are those of Cityscapes, and so on.

    Args:
        model: any with a head.
        pixels: how it was trained; "auto" is what its head keeps, or else CIFAR's for ten classes of images and
            ImageNet's otherwise.
        names: a file of the classes' names, one a line, such as CIFAR's batches.meta.txt.

    Raises:
        ConfigError: the model has no head, or `names` is no file of as many names as it has classes.
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
