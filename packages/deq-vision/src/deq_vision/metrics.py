"""Metrics of classification and segmentation; those of detection are in `detection.metrics`."""

from collections.abc import Sequence

import torch
from torch import Tensor

from deq_core.experiment.tables import Row
from deq_vision.data.samples import IGNORE_INDEX


def correct(logits: Tensor, labels: Tensor, k: int = 1) -> Tensor:
    """bool (b,): whether the class in `labels` (b,) is among the `k` greatest of `logits` (b, c).

    Ties are resolved in favour of the smaller class index. A sample is wrong if the logit of its own class is not
    finite, or that of any class is NaN or +infinity.

    Raises:
        ValueError: the shapes do not fit, or k is not from 1 to c.
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(f"expected logits (b, c) and labels (b,), got {tuple(logits.shape)} and {tuple(labels.shape)}")
    if not 1 <= k <= logits.shape[1]:
        raise ValueError(f"k must be from 1 to the {logits.shape[1]} classes, got {k}")
    own = logits.gather(1, labels[:, None])
    earlier = torch.arange(logits.shape[1], device=logits.device) < labels[:, None]
    before = (logits > own) | ((logits == own) & earlier)
    numbers = own[:, 0].isfinite() & (logits < torch.inf).all(dim=1)
    return (before.sum(dim=1) < k) & numbers


def confusion(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """The confusion matrix, int64 (classes, classes): pixels of each class (rows) predicted as each class (columns).

    The matrix of a data set is the sum over its images. Pixels with the label `IGNORE_INDEX` are left out.

    Args:
        predicted: whole numbers from 0 to classes - 1, of any shape.
        labels: labels of the same shape, from 0 to classes - 1 or `IGNORE_INDEX`.
        classes: number of classes.

    Raises:
        ValueError: the shapes differ, or a measured pixel has a class outside the range, or none because of NaN scores.
    """
    if predicted.shape != labels.shape:
        raise ValueError(f"expected the shape of the labels {tuple(labels.shape)}, got {tuple(predicted.shape)}")
    measured = labels != IGNORE_INDEX
    if not predicted[measured].isfinite().all():  # as integers they would be arbitrary classes
        raise ValueError(f"predictions must be from 0 to {classes - 1} where they are measured, got NaN or infinity")
    truth, guess = labels[measured].long(), predicted[measured].long()
    for name, values in (("labels", truth), ("predictions", guess)):
        if len(values) and not 0 <= int(values.min()) <= int(values.max()) < classes:
            got = f"{int(values.min())} to {int(values.max())}"
            raise ValueError(f"{name} must be from 0 to {classes - 1} where they are measured, got {got}")
    return torch.bincount(truth * classes + guess, minlength=classes**2).reshape(classes, classes)


def segmentation_metrics(matrix: Tensor) -> dict[str, float]:
    """Metrics of the Cityscapes protocol from the `confusion` of a whole data set.

    Returns:
        miou: mean over all classes of the intersection over union, 0 for a class neither present nor predicted.
        accuracy: share of correct pixels. mean_accuracy: mean over all classes of the share of their correct pixels.
    """
    counts = matrix.double()
    right, there = counts.diagonal(), counts.sum(dim=1)
    return {
        "miou": float(intersection_over_union(matrix).mean()),
        "accuracy": float(right.sum() / there.sum().clamp(min=1)),
        "mean_accuracy": float((right / there.clamp(min=1)).mean()),
    }


def segmentation_by_class(matrix: Tensor, names: Sequence[str]) -> list[Row]:
    """One row per class, from the `confusion` of a whole data set.

    The columns are class, iou, accuracy (share of its pixels that are correct) and pixels. iou is None for a class
    neither present nor predicted, accuracy for one not present.
    """
    overlap, there, guessed = intersection_over_union(matrix), matrix.sum(dim=1), matrix.sum(dim=0)
    rows: list[Row] = []
    for index, name in enumerate(names):
        count = int(there[index])
        iou = float(overlap[index]) if count or guessed[index] else None
        accuracy = int(matrix[index, index]) / count if count else None
        rows.append({"class": name, "iou": iou, "accuracy": accuracy, "pixels": count})
    return rows


def intersection_over_union(matrix: Tensor) -> Tensor:
    """Intersection over union of each class, float64 (classes,); 0 for one neither present nor predicted."""
    counts = matrix.double()
    right = counts.diagonal()
    return right / (counts.sum(dim=1) + counts.sum(dim=0) - right).clamp(min=1)
