"""Measurements of a run over videos: the task's metrics by place in the video, and the cost of the solves."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from deq_vision.data.samples import Objects
from deq_vision.detection.decoding import detect
from deq_vision.detection.metrics import Found, Truth, coco_ap50
from deq_vision.detection.params import Detect
from deq_vision.detection.task import as_found, as_truth, classes_in, detection_metrics
from deq_vision.metrics import confusion, segmentation_metrics
from deq_vision.streaming.videos import Shown
from deq_vision.windows import pixel_classes

Place = tuple[int, int]
"""Index of a video, and of a frame within it."""


class SegmentationScores:
    """Confusion matrices of single frames, so that any subset of them can be measured."""

    def __init__(self) -> None:
        self.frames: dict[Place, Tensor] = {}

    def add(self, logits: Tensor, images: Tensor, shown: Sequence[Shown[Tensor]]) -> None:
        """Adds a batch: the network's logits for padded images (b, 3, H, W), and the frames of these images."""
        if all(one.frame.known is None for one in shown):
            return
        predicted = pixel_classes(logits, (images.shape[2], images.shape[3])).cpu()
        for row, one in zip(predicted, shown, strict=True):
            if one.frame.known is not None:
                height, width = one.frame.known.shape
                matrix = confusion(row[:height, :width], one.frame.known, logits.shape[1])
                self.frames[one.video, one.index] = matrix

    def metrics(self, places: Iterable[Place]) -> dict[str, float]:
        """All metrics of the frames at these places; empty if none is annotated."""
        matrices = [self.frames[place] for place in places]
        return segmentation_metrics(torch.stack(matrices).sum(dim=0)) if matrices else {}

    def headline(self, places: Iterable[Place]) -> dict[str, float]:
        """The headline metric alone, for tables of many rows."""
        return {name: value for name, value in self.metrics(places).items() if name == "miou"}


class DetectionScores:
    """Detections and annotated objects of single frames, so that any subset of them can be measured."""

    def __init__(self, task: Detect) -> None:
        self.task = task
        self.frames: dict[Place, tuple[Found, Truth]] = {}

    def add(self, logits: Tensor, images: Tensor, shown: Sequence[Shown[Objects]]) -> None:
        """Adds a batch, as `SegmentationScores.add` does."""
        sizes = [(one.frame.image.shape[1], one.frame.image.shape[2]) for one in shown]
        found = detect(logits, sizes, images.shape[3] // logits.shape[3], self.task.decoding)
        for one, seen, size in zip(shown, found, sizes, strict=True):
            if one.frame.known is not None:
                seen = seen.enlarged(size, one.frame.size)
                self.frames[one.video, one.index] = as_found(seen), as_truth(one.frame.known)

    def metrics(self, places: Iterable[Place]) -> dict[str, float]:
        """All metrics of the frames at these places; empty without an object."""
        return detection_metrics(*self._of(places))

    def headline(self, places: Iterable[Place]) -> dict[str, float]:
        """The ap50 alone, at less cost."""
        found, truth = self._of(places)
        return coco_ap50(found, truth, classes_in(truth))

    def _of(self, places: Iterable[Place]) -> tuple[list[Found], list[Truth]]:
        pairs = [self.frames[place] for place in places]
        return [found for found, _ in pairs], [truth for _, truth in pairs]


@dataclass
class Costs:
    """Cost of the solves by frame index within the videos."""

    values: dict[int, list[tuple[float, float, float]]] = field(default_factory=lambda: defaultdict(list))
    """{index: (residual, evaluations, milliseconds) of each frame there}."""

    def add(self, residual: Tensor, evaluations: Tensor, milliseconds: float, shown: Sequence[Shown[Any]]) -> None:
        """Adds a batch; the time is shared equally among its frames."""
        share = milliseconds / len(shown)
        for one, left, spent in zip(shown, residual.tolist(), evaluations.tolist(), strict=True):
            self.values[one.index].append((left, spent, share))

    def means(self, index: int | None = None) -> dict[str, float]:
        """Mean residual and evaluations of the frames at an index, or of all."""
        residuals, evaluations, _ = self._columns(self.values if index is None else [index])
        return {"residual": fmean(residuals), "evaluations": fmean(evaluations)}

    def milliseconds(self) -> float:
        """Mean time of all frames; not reproducible, so not in the tables."""
        return fmean(self._columns(self.values)[2])

    def _columns(self, indices: Iterable[int]) -> list[tuple[float, ...]]:
        return list(zip(*(row for index in indices for row in self.values[index]), strict=True))
