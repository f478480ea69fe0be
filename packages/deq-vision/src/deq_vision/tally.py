"""Metrics of a network on a task, accumulated batch by batch."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from deq_core.experiment.data.layout import LayoutError
from deq_core.experiment.tables import Row
from deq_vision.data.batches import SegmentedBatch
from deq_vision.data.samples import IGNORE_INDEX
from deq_vision.detection.params import Detect
from deq_vision.detection.task import DetectionTally
from deq_vision.metrics import confusion, correct, segmentation_by_class, segmentation_metrics
from deq_vision.params import Classify
from deq_vision.tasks import Scored, class_weights, loss, predicted_classes
from deq_vision.windows import unreduced_classes


def tally(task: Scored | Detect) -> "DetectionTally | ScoreTally":
    """An empty accumulator of a task's metrics."""
    return DetectionTally(task) if isinstance(task, Detect) else ScoreTally(task)


class ScoreTally:
    """Metrics of classification or segmentation.

    Classification: loss, top1 and, with more than five classes, top5. Segmentation: loss, miou, accuracy and
    mean_accuracy.
    """

    def __init__(self, task: Scored) -> None:
        self.task: Scored = task
        self.count = 0
        self.weight = 0.0  # sum over batches; see `weight_of`
        self.loss = 0.0
        self.sums: dict[str, float] = {}
        self.matrix: Tensor | None = None
        self.answers: list[tuple[Tensor, Tensor]] = []  # labels of images, and whether the predictions are right

    def add(self, outputs: Tensor, batch: Any, /) -> None:
        """Adds the outputs for a batch."""
        self.count += len(batch.labels)
        weight = weight_of(self.task, batch.labels)
        self.weight += weight
        self.loss += float(loss(self.task, outputs, batch)) * weight
        if isinstance(self.task, Classify):
            right = correct(outputs, batch.labels)
            self.answers.append((batch.labels.cpu(), right.cpu()))
            self._sum("top1", float(right.sum()))
            if outputs.shape[1] > 5:
                self._sum("top5", float(correct(outputs, batch.labels, 5).sum()))
        else:
            for predicted, labels in measured_classes(outputs, batch):
                matrix = confusion(predicted, labels, outputs.shape[1])
                self.matrix = matrix if self.matrix is None else self.matrix + matrix

    def _sum(self, name: str, value: float) -> None:
        self.sums[name] = self.sums.get(name, 0.0) + value

    def metrics(self) -> dict[str, float]:
        """Metrics of all batches so far.

        Raises:
            LayoutError: no pixel of the masks has a class, as in the test split of Cityscapes.
        """
        if self.matrix is not None and not self.matrix.any():
            raise LayoutError(
                f"expected pixels of a class in the masks that are measured, got none: all of the {self.count} masks "
                "are ignored; measure another split, or correct the masks or the labels that are ignored"
            )
        means = {"loss": self.loss / self.weight if self.weight else 0.0}
        means |= {name: value / self.count for name, value in self.sums.items()}
        return means if self.matrix is None else {**means, **segmentation_metrics(self.matrix)}

    def by_class(self, names: Sequence[str]) -> list[Row]:
        """One row per class: iou, accuracy and pixels for segmentation, accuracy and images for classification."""
        if self.matrix is not None:
            return segmentation_by_class(self.matrix, names)
        labels, right = (torch.cat(parts) for parts in zip(*self.answers, strict=True))
        rows: list[Row] = []
        for index, name in enumerate(names):
            found = right[labels == index]
            share = float(found.float().mean()) if len(found) else None
            rows.append({"class": name, "accuracy": share, "images": len(found)})
        return rows


def weight_of(task: Scored, labels: Tensor) -> float:
    """Weight of a batch in the mean loss: its number of images, or the summed class weights of its labelled pixels."""
    if isinstance(task, Classify):
        return len(labels)
    labelled, weights = labels[labels != IGNORE_INDEX], class_weights(task)
    if weights is None or task.hard is not None:
        return len(labelled)
    return float(weights.double().to(labels.device)[labelled].sum())


def measured_classes(logits: Tensor, batch: SegmentedBatch) -> Iterator[tuple[Tensor, Tensor]]:
    """Predicted and true classes of every pixel at the original size of the masks, even if images were resized."""
    if batch.whole:
        grid = batch.images.shape[2:]
        for scores, seen, labels in zip(logits, batch.sizes, batch.whole, strict=True):
            yield unreduced_classes(scores[None], grid, seen, labels.shape)[0], labels
    else:
        yield predicted_classes(logits, batch.labels), batch.labels
