"""Metrics of classification and of segmentation; those of detection are in `detection.metrics`."""

from collections.abc import Sequence

import torch
from torch import Tensor

from deq_core.experiment.tables import Row
from deq_vision.data.samples import IGNORE_INDEX


def correct(logits: Tensor, labels: Tensor, k: int = 1) -> Tensor:
    """bool (b,): whether the class `labels` (b,) is among the `k` of greatest `logits` (b, c).

    Of equal logits the class of smaller index comes first. A sample is wrong where its own class has no finite logit,
    or any class NaN or infinity.

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
    """int64 (classes, classes): how many pixels of each class (rows) were predicted as each class (columns).

    Matrices of images add up to that of a data set. Pixels with the label `IGNORE_INDEX` are left out.

    Args:
        predicted: whole numbers from 0 to classes - 1, of any shape.
        labels: of the same shape, from 0 to classes - 1 or `IGNORE_INDEX`.
        classes: how many there are.

    Raises:
        ValueError: the shapes differ, or a measured pixel has another class or none, as where scores were NaN.
    """
    if predicted.shape != labels.shape:
        raise ValueError(f"expected the shape of the labels {tuple(labels.shape)}, got {tuple(predicted.shape)}")
    measured = labels != IGNORE_INDEX
    if not predicted[measured].isfinite().all():  # as whole numbers they would be any
        raise ValueError(f"predictions must be from 0 to {classes - 1} where they are measured, got NaN or infinity")
    truth, guess = labels[measured].long(), predicted[measured].long()
    for name, values in (("labels", truth), ("predictions", guess)):
        if len(values) and not 0 <= int(values.min()) <= int(values.max()) < classes:
            got = f"{int(values.min())} to {int(values.max())}"
            raise ValueError(f"{name} must be from 0 to {classes - 1} where they are measured, got {got}")
    return torch.bincount(truth * classes + guess, minlength=classes**2).reshape(classes, classes)


def segmentation_metrics(matrix: Tensor) -> dict[str, float]:
    """The Cityscapes protocol from the `confusion` of a whole data set.

    Returns:
        miou: mean over all classes of the intersection over union, 0 for a class that is neither there nor predicted.
        accuracy: share of the pixels that are right. mean_accuracy: mean over all classes of the share of their pixels.
    """
    counts = matrix.double()
    right, there = counts.diagonal(), counts.sum(dim=1)
    return {
        "miou": float(intersection_over_union(matrix).mean()),
        "accuracy": float(right.sum() / there.sum().clamp(min=1)),
        "mean_accuracy": float((right / there.clamp(min=1)).mean()),
    }


def segmentation_by_class(matrix: Tensor, names: Sequence[str]) -> list[Row]:
    """A row of each class, from the `confusion` of a whole data set.

    Its columns are class, iou, accuracy (the share of its pixels that are right) and pixels; iou is None of a class
    that is neither there nor predicted, accuracy of one that is not there.
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
    """float64 (classes,): of each class, pixels that are it and are predicted as it over those that are either."""
    counts = matrix.double()
    right = counts.diagonal()
    return right / (counts.sum(dim=1) + counts.sum(dim=0) - right).clamp(min=1)
