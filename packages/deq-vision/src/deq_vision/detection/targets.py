"""Training targets of a detector's map, and its loss."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deq_vision.data.samples import Objects
from deq_vision.detection.boxes import area, generalized_box_iou
from deq_vision.detection.decoding import decode, split

NEAREST = 0.1
"""Smallest standard deviation of an object's peak, in cells; such a peak vanishes outside its cell."""


@dataclass(frozen=True, kw_only=True)
class DetectionLoss:
    """Settings of the detection loss.

    Raises:
        ValueError: a number is out of range.
    """

    spread: float = 0.54
    """Width of the peak around a centre, six standard deviations, as a share of the object's side (TTFNet)."""
    box_weight: float = 5.0
    """Weight of the boxes' loss relative to the scores'."""

    def __post_init__(self) -> None:
        if self.spread <= 0 or self.box_weight < 0:
            raise ValueError(f"spread must be positive and box_weight not negative, got {self}")


@dataclass(frozen=True)
class Targets:
    """Targets of the maps of B images."""

    heat: Tensor
    """(B, classes, h, w), from 0 to 1: 1 in the cell of an object's centre, less around it."""
    boxes: Tensor
    """(B, h, w, 4), pixels: box of the object that a cell belongs to."""
    weights: Tensor
    """(B, h, w): weight of a cell's box; 0 if the cell belongs to no object."""


def targets(objects: Sequence[Objects], classes: int, grid: tuple[int, int], stride: int, spread: float) -> Targets:
    """The targets of images with these objects, for maps of `grid` (h, w) cells, `stride` pixels wide.

    Each object has a peak exp(-x² / 2 σx² - y² / 2 σy²) around the cell of its centre, with σ spread / 6 times its
    sides. A cell belongs to the object with the highest peak there, if that is at least 0.5; on ties to the smaller.

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
    order = area(boxes).argsort(stable=True)  # smaller first: max takes the first of equal peaks
    boxes, kinds = boxes[order], objects.classes[order]
    peaks = _peaks(boxes, grid, stride, spread)  # (n, h, w)
    heat = heat.scatter_reduce(0, kinds[:, None, None].expand_as(peaks), peaks, "amax")
    highest, owner = peaks.max(dim=0)
    return heat, boxes[owner], torch.where(highest >= 0.5, highest, 0.0)


def _peaks(boxes: Tensor, grid: tuple[int, int], stride: int, spread: float) -> Tensor:
    """Peaks of the boxes, (n, h, w)."""
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

    Scores: the focal loss of CornerNet (Law & Deng, ECCV 2018, eq. 1), divided by the number of objects. Boxes: 1 minus
    the generalized intersection over union, averaged with the cells' weights.
    """
    return joined(loss_sums(maps, objects, stride, config), config)


def joined(sums: Tensor, config: DetectionLoss) -> Tensor:
    """The loss from `loss_sums`; summed over batches, these give the loss of all their images at once."""
    scores, count, misses, weight = sums.unbind()
    return scores / count.clamp(min=1) + config.box_weight * misses / weight.clamp(min=1)


def loss_sums(maps: Tensor, objects: Sequence[Objects], stride: int, config: DetectionLoss) -> Tensor:
    """The sums in `detection_loss`, (4,): focal loss, number of objects, weighted loss of the boxes, and weights."""
    logits, encoded = split(maps.to(torch.promote_types(maps.dtype, torch.float32)))
    wanted = targets(objects, logits.shape[1], (maps.shape[2], maps.shape[3]), stride, config.spread)
    heat = wanted.heat.to(logits)
    inside = wanted.weights > 0
    weights = wanted.weights[inside].to(logits)
    misses = 1 - generalized_box_iou(decode(encoded, stride)[inside], wanted.boxes[inside].to(logits))
    count = logits.new_tensor(sum(len(entry) for entry in objects))
    return torch.stack([focal_loss(logits, heat), count, (weights * misses).sum(), weights.sum()])


def focal_loss(logits: Tensor, heat: Tensor) -> Tensor:
    """Sum over all cells and classes of -(1 - p)² log p where `heat` is 1, else -(1 - heat)⁴ p² log(1 - p)."""
    sure, unsure = torch.nn.functional.logsigmoid(logits), torch.nn.functional.logsigmoid(-logits)
    probability = logits.sigmoid()
    present = (1 - probability) ** 2 * sure
    absent = (1 - heat) ** 4 * probability**2 * unsure
    return -torch.where(heat == 1, present, absent).sum()
