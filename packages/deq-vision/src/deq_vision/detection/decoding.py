"""Decoding of a detector's map into boxes in pixels; see `models.detection` for the map."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from deq_vision.detection.boxes import non_maximum_suppression
from deq_vision.models.detection import BOX

GREATEST = 8.0
"""Upper limit of the logarithm of a side in cells, which keeps the boxes of an untrained network finite."""


@dataclass(frozen=True)
class Detections:
    """Detections of one image, sorted by descending score."""

    boxes: Tensor
    """(n, 4): left, top, right, bottom, pixels."""
    scores: Tensor
    """(n,), from 0 to 1."""
    classes: Tensor
    """int64 (n,)."""

    def __len__(self) -> int:
        return len(self.boxes)

    def cpu(self) -> "Detections":
        """The detections on the CPU."""
        return Detections(self.boxes.cpu(), self.scores.cpu(), self.classes.cpu())

    def enlarged(self, seen: Sequence[int], size: Sequence[int]) -> "Detections":
        """The detections in pixels of the original image, (h, w) `size`, which the network saw resized to `seen`."""
        factors = self.boxes.new_tensor([size[1] / seen[1], size[0] / seen[0]] * 2)
        return Detections(self.boxes * factors, self.scores, self.classes)


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """Settings of the decoding.

    Raises:
        ValueError: a number is out of range.
    """

    least_score: float = 0.05
    """Score below which detections are dropped."""
    suppression: float = 0.5
    """Intersection over union with a better detection of the same class above which a detection is dropped."""
    candidates: int = 300
    """Number of pairs of cell and class per image, those of highest score, that enter non-maximum suppression."""
    limit: int = 100
    """Maximum number of detections per image."""

    def __post_init__(self) -> None:
        if not 0 <= self.least_score <= 1 or not 0 <= self.suppression <= 1:
            raise ValueError(
                f"least_score and suppression must be from 0 to 1, got {self.least_score} and {self.suppression}"
            )
        if min(self.candidates, self.limit) < 1:
            raise ValueError(f"candidates and limit must be at least 1, got {self.candidates} and {self.limit}")


def split(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Splits a map into score logits (B, classes, h, w) and encoded boxes (B, 4, h, w)."""
    return maps[:, :-BOX], maps[:, -BOX:]


def decode(encoded: Tensor, stride: int) -> Tensor:
    """Decodes boxes (B, 4, h, w) of a map with cells of `stride` pixels to boxes (B, h, w, 4) in pixels."""
    height, width = encoded.shape[2:]
    corner_x = torch.arange(width, device=encoded.device, dtype=encoded.dtype)
    corner_y = torch.arange(height, device=encoded.device, dtype=encoded.dtype)[:, None]
    x, y, log_width, log_height = encoded.unbind(dim=1)
    centres = torch.stack([corner_x + x, corner_y + y], dim=-1)
    sides = torch.stack([log_width, log_height], dim=-1).clamp(max=GREATEST).exp()
    return torch.cat([centres - sides / 2, centres + sides / 2], dim=-1) * stride


def encode(boxes: Tensor, cells: Tensor, stride: int) -> Tensor:
    """Encodes boxes (n, 4) in pixels for cells (n, 2), x and y, of a map; the inverse of `decode`."""
    low, high = (boxes / stride).split(2, dim=1)
    return torch.cat([(low + high) / 2 - cells, (high - low).log()], dim=1)


def detect(maps: Tensor, sizes: list[tuple[int, int]], stride: int, decoding: Decoding) -> list[Detections]:
    """Decodes the detections of each image; boxes are clipped to the image, and cells with non-finite values are empty.

    Args:
        maps: (B, classes + 4, h, w).
        sizes: (h, w) of each image, pixels, without padding.
        stride: width of a cell, pixels.
        decoding: settings.
    """
    logits, boxes = split(maps.float())
    places = rearrange(decode(boxes, stride), "b h w box -> b (h w) box")
    numbers = maps.isfinite().all(dim=1, keepdim=True)
    scores = rearrange(torch.where(numbers, logits.sigmoid(), -1.0), "b classes h w -> b (h w) classes")
    return [one(scores[row], places[row], size, decoding) for row, size in enumerate(sizes)]


def one(scores: Tensor, boxes: Tensor, size: tuple[int, int], decoding: Decoding) -> Detections:
    """Detections of one image (h, w) from scores (cells, classes) and boxes (cells, 4)."""
    values, order = scores.flatten().topk(min(decoding.candidates, scores.numel()))
    order = order[values >= decoding.least_score]
    cells, classes = order // scores.shape[1], order % scores.shape[1]
    limits = boxes.new_tensor([*size[::-1]] * 2)
    found = boxes[cells].clamp(min=0).minimum(limits)
    visible = (found[:, 2:] > found[:, :2]).all(dim=1)
    found, classes, values = found[visible], classes[visible], scores.flatten()[order][visible]
    kept = non_maximum_suppression(found, values, classes, decoding.suppression)[: decoding.limit]
    return Detections(found[kept], values[kept], classes[kept])
