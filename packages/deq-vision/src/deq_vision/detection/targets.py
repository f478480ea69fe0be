"""What a detector's map should hold for the objects of an image, and how far from that it is."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deq_vision.data.samples import Objects
from deq_vision.detection.boxes import area, generalized_box_iou
from deq_vision.detection.decoding import decode, split

NEAREST = 0.1
"""Standard deviation, in cells, of the smallest object's peak: beside its cell there is nothing."""


@dataclass(frozen=True, kw_only=True)
class DetectionLoss:
    """How maps are compared with their targets.

    Raises:
        ValueError: a number is out of range.
    """

    spread: float = 0.54
    """Width of the peak around a centre over that of the object: six standard deviations over the side (TTFNet)."""
    box_weight: float = 5.0
    """Weight of the boxes beside the scores."""

    def __post_init__(self) -> None:
        if self.spread <= 0 or self.box_weight < 0:
            raise ValueError(f"spread must be positive and box_weight not negative, got {self}")


@dataclass(frozen=True)
class Targets:
    """What the map of each of B images should hold."""

    heat: Tensor
    """(B, classes, h, w), from 0 to 1: 1 in the cell of an object's centre, less around it."""
    boxes: Tensor
    """(B, h, w, 4), pixels: of the object that a cell belongs to."""
    weights: Tensor
    """(B, h, w): how much a cell's box counts; 0 where it belongs to none."""


def targets(objects: Sequence[Objects], classes: int, grid: tuple[int, int], stride: int, spread: float) -> Targets:
    """The targets of images with these objects, for maps of `grid` (h, w) cells, `stride` pixels wide.

    Around its centre's cell each object has a peak exp(-x² / 2 σx² - y² / 2 σy²), σ being spread / 6 of its sides. A
    cell belongs to the object whose peak is highest there, of equal ones the smaller, where that peak is at least half.

    Raises:
        ValueError: an object's class is not below `classes`.
    """
    parts = [_of_image(entry, classes, grid, stride, spread) for entry in objects]
    heat, boxes, weights = (torch.stack(values) for values in zip(*parts, strict=True))
    return Targets(heat, boxes, weights)


def _of_image(
    objects: Objects, classes: int, grid: tuple[int, int], stride: int, spread: float
) -> tuple[Tensor, Tensor, Tensor]:
    height, width = grid
    boxes = objects.boxes
    heat = boxes.new_zeros(classes, height, width)
    if not len(objects):
        return heat, boxes.new_zeros(height, width, 4), boxes.new_zeros(height, width)
    if boxes.device.type == "cpu" and int(objects.classes.max()) >= classes:
        raise ValueError(f"expected classes from 0 to {classes - 1}, got {int(objects.classes.max())}")
    order = area(boxes).argsort(stable=True)  # argmax takes the first of equal peaks
    boxes, kinds = boxes[order], objects.classes[order]
    peaks = _peaks(boxes, grid, stride, spread)  # (n, h, w)
    heat = heat.scatter_reduce(0, kinds[:, None, None].expand_as(peaks), peaks, "amax")
    highest, owner = peaks.max(dim=0)
    return heat, boxes[owner], torch.where(highest >= 0.5, highest, 0.0)


def _peaks(boxes: Tensor, grid: tuple[int, int], stride: int, spread: float) -> Tensor:
    """(n, h, w), one peak a box."""
    height, width = grid
    low, high = (boxes / stride).split(2, dim=1)
    limits = boxes.new_tensor([width - 1, height - 1])
    cells = ((low + high) / 2).floor().clamp(min=0).minimum(limits)
    sigma = (spread / 6 * (high - low)).clamp(min=NEAREST)
    x = torch.arange(width, device=boxes.device) - cells[:, :1]
    y = torch.arange(height, device=boxes.device) - cells[:, 1:]
    along_x, along_y = (-(x**2) / (2 * sigma[:, :1] ** 2)).exp(), (-(y**2) / (2 * sigma[:, 1:] ** 2)).exp()
    return along_y[:, :, None] * along_x[:, None, :]


def detection_loss(maps: Tensor, objects: Sequence[Objects], stride: int, config: DetectionLoss) -> Tensor:
    """The loss of maps (B, classes + 4, h, w) for images with these objects, a scalar.

    Scores: the focal loss of CornerNet (Law & Deng, ECCV 2018, eq. 1), over the number of objects. Boxes: 1 less their
    generalized intersection over union, averaged with the cells' weights.
    """
    return joined(loss_sums(maps, objects, stride, config), config)


def joined(sums: Tensor, config: DetectionLoss) -> Tensor:
    """The loss of `loss_sums`, or of those of several batches added up, which is that of all their images at once."""
    scores, count, misses, weight = sums.unbind()
    return scores / count.clamp(min=1) + config.box_weight * misses / weight.clamp(min=1)


def loss_sums(maps: Tensor, objects: Sequence[Objects], stride: int, config: DetectionLoss) -> Tensor:
    """What `detection_loss` is made of, (4,): focal losses, objects, weighted misses of boxes, and weights."""
    logits, encoded = split(maps.to(torch.promote_types(maps.dtype, torch.float32)))
    wanted = targets(objects, logits.shape[1], (maps.shape[2], maps.shape[3]), stride, config.spread)
    heat = wanted.heat.to(logits)
    inside = wanted.weights > 0
    weights = wanted.weights[inside].to(logits)
    misses = 1 - generalized_box_iou(decode(encoded, stride)[inside], wanted.boxes[inside].to(logits))
    count = logits.new_tensor(sum(len(entry) for entry in objects))
    return torch.stack([focal_loss(logits, heat), count, (weights * misses).sum(), weights.sum()])


def focal_loss(logits: Tensor, heat: Tensor) -> Tensor:
    """The sum over all cells and classes: where `heat` is 1, -(1 - p)² log p; elsewhere -(1 - heat)⁴ p² log(1 - p)."""
    sure, unsure = torch.nn.functional.logsigmoid(logits), torch.nn.functional.logsigmoid(-logits)
    probability = logits.sigmoid()
    present = (1 - probability) ** 2 * sure
    absent = (1 - heat) ** 4 * probability**2 * unsure
    return -torch.where(heat == 1, present, absent).sum()
