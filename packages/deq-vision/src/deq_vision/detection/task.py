"""Data, loss and metrics of the detection task; `tasks` has those of the others."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset

from deq_core.experiment.data.batches import SampleSet
from deq_core.experiment.tables import Row
from deq_vision.data import classes
from deq_vision.data.batches import AnnotatedBatch
from deq_vision.data.samples import AnnotatedImage, Objects
from deq_vision.data.scenes import Placement, fitted_to, place_image, place_objects
from deq_vision.data.sets.imagenet_vid import ImageNetDet, ImageNetVid
from deq_vision.data.sets.own.boxes import OwnBoxes
from deq_vision.detection.boxes import box_iou
from deq_vision.detection.decoding import Detections, detect
from deq_vision.detection.metrics import Found, Truth, coco_by_class, coco_metrics, vid_map
from deq_vision.detection.params import Detect
from deq_vision.detection.targets import detection_loss, joined, loss_sums

Split = Literal["train", "val", "test"]
OBJECTS: Mapping[str, Mapping[str, str]] = {"vid": classes.VID, "street": classes.STREET_OBJECTS}
"""WordNet ids and names of the classes, in the order of the network's scores."""
HEADLINE = "ap50"


def samples(task: Detect, data: Path, split: Split) -> SampleSet[AnnotatedImage]:
    """The annotated frames of a split, with the still images for training if the task asks for them.

    Raises:
        LayoutError: the set is missing or incomplete.
    """
    root = data / task.folder
    if task.objects == "own":
        return OwnBoxes(root, split)
    names = OBJECTS[task.objects]
    if split != "train":
        return ImageNetVid(root, split, classes=names)
    frames = ImageNetVid(root, split, classes=names, frames_per_video=task.frames_per_video)
    return ConcatDataset([frames, ImageNetDet(root, classes=names)]) if task.still_images else frames


def names_of(task: Detect, data: Path) -> tuple[str, ...]:
    """Class names of a task, in the order of the network's scores.

    Raises:
        LayoutError, FileFormatError: those of your own boxes are missing.
    """
    if task.objects == "own":
        return tuple(OwnBoxes(data / task.folder).categories.values())
    return tuple(OBJECTS[task.objects].values())


def fit(sample: AnnotatedImage, sides: tuple[int, int] | None, *, smooth: bool = False) -> AnnotatedImage:
    """Resizes an image, with its boxes, to fit within sides (longer, shorter)."""
    size = sample.image.shape[1], sample.image.shape[2]
    fitted = fitted_to(size, sides)
    placement = Placement(fitted, flip=False, corner=(0, 0), size=fitted, smooth=smooth)
    objects = place_objects(sample.objects, size, placement, least_share=0.0)
    return AnnotatedImage(place_image(sample.image, placement), objects, sample.name, sample.measured())


def stride_of(maps: Tensor, images: Tensor) -> int:
    """Width of a cell of the maps, in pixels of the images."""
    return images.shape[3] // maps.shape[3]


def loss(task: Detect, maps: Tensor, batch: AnnotatedBatch) -> Tensor:
    """Mean training loss of a detector, a scalar."""
    return detection_loss(maps, batch.objects, stride_of(maps, batch.images), task.loss)


def predictions(task: Detect, maps: Tensor, batch: AnnotatedBatch) -> list[Detections]:
    """Detections of each image."""
    return detect(maps, list(batch.sizes), stride_of(maps, batch.images), task.decoding)


@torch.no_grad()
def training_metric(task: Detect, maps: Tensor, batch: AnnotatedBatch) -> Tensor:
    """Recall at an IoU of 0.5: share of the objects covered by a detection of their class; a scalar."""
    hits = 0
    for known, found in zip(batch.objects, predictions(task, maps, batch), strict=True):
        if len(known) and len(found):
            alike = known.classes[:, None] == found.classes[None]
            hits += int(((box_iou(known.boxes, found.boxes) >= 0.5) & alike).any(dim=1).sum())
    return torch.tensor(hits / max(1, sum(len(known) for known in batch.objects)))


class DetectionTally:
    """Collects detections of images, and computes their metrics."""

    def __init__(self, task: Detect) -> None:
        self.task = task
        self.found: list[Found] = []
        self.truth: list[Truth] = []
        self.sums = torch.zeros(4, dtype=torch.float64)

    def add(self, maps: Tensor, batch: AnnotatedBatch) -> None:
        """Adds the detections of a batch."""
        self.sums += loss_sums(maps, batch.objects, stride_of(maps, batch.images), self.task.loss).detach().cpu()
        seen = zip(predictions(self.task, maps, batch), batch.sizes, batch.whole, strict=True)
        found = [one.enlarged(size, whole.size) for one, size, whole in seen]
        self.add_found(found, [as_truth(whole.objects, whole.crowds) for whole in batch.whole])

    def add_found(self, found: Sequence[Detections], truth: Sequence[Truth]) -> None:
        """Adds detections of images with the annotated objects of each."""
        self.found.extend(as_found(one) for one in found)
        self.truth.extend(truth)

    @property
    def count(self) -> int:
        """Number of images."""
        return len(self.found)

    def metrics(self) -> dict[str, float]:
        """Metrics of all images: loss and, if there are objects, COCO's values (including ap50) and VID's map50."""
        return {"loss": float(joined(self.sums, self.task.loss)), **detection_metrics(self.found, self.truth)}

    def by_class(self, names: Sequence[str]) -> list[Row]:
        """One row per class: COCO's average precision (ap, ap50), and number of objects."""
        return coco_by_class(self.found, self.truth, names)


def detection_metrics(found: Sequence[Found], truth: Sequence[Truth]) -> dict[str, float]:
    """COCO's average precision and recall, and VID's average precision; empty without an object in the images."""
    number = classes_in(truth)
    return {**coco_metrics(found, truth, number), **vid_map(found, truth, number)}


def classes_in(truth: Sequence[Truth]) -> int:
    """One more than the greatest class of any object; enough, as metrics are means over the classes that occur."""
    return 1 + max((int(one.classes.max()) for one in truth if len(one.classes)), default=0)


def as_found(found: Detections) -> Found:
    """Detections in the form that the metrics take."""
    found = found.cpu()
    return Found(found.boxes, found.scores, found.classes)


def as_truth(objects: Objects, crowds: Objects | None = None) -> Truth:
    """Objects in the form that the metrics take."""
    known = Truth(
        objects.boxes.cpu(), objects.classes.cpu(), area=None if objects.areas is None else objects.areas.cpu()
    )
    return known if crowds is None else known.with_crowds(crowds.boxes.cpu(), crowds.classes.cpu())
