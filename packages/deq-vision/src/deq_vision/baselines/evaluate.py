"""Evaluation of the baselines on the split that networks are measured on."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deq_core.experiment.data.batches import grouped, in_order
from deq_vision import tasks
from deq_vision.baselines.classifiers import (
    Classifier,
    linear_classifier,
    majority_class,
    nearest_neighbours,
    pixel_classifier,
    position_prior,
    prior_boxes,
)
from deq_vision.baselines.params import (
    Baseline,
    Boxes,
    Linear,
    Majority,
    Neighbours,
    OfImages,
    OfPixels,
    Pixels,
    Position,
)
from deq_vision.detection import task as detect
from deq_vision.detection.decoding import Detections
from deq_vision.detection.params import Detect
from deq_vision.detection.task import DetectionTally, as_truth
from deq_vision.evaluate import Evaluate
from deq_vision.metrics import confusion, segmentation_metrics
from deq_vision.params import Classify, Segment, Task


def measure(baseline: Baseline, task: Task, config: Evaluate, data: Path) -> dict[str, float]:
    """Metrics of one baseline.

    Raises:
        ValueError: the baseline is for another task.
    """
    match task, baseline:
        case Classify(), Linear() | Neighbours():
            return of_images(baseline, task, config, data)
        case Segment(), Majority() | Position() | Pixels():
            return of_pixels(baseline, task, config, data)
        case Detect(), Boxes():
            return of_boxes(baseline, task, config, data)
    raise ValueError(f"baselines: {baseline.kind} is not a baseline for tasks to {task.kind}")


def of_images(baseline: OfImages, task: Classify, config: Evaluate, data: Path) -> dict[str, float]:
    """top1 of an image classifier."""
    train = tasks.samples(task, data, "train")
    match baseline:
        case Linear():
            classify = linear_classifier(train, strength=baseline.strength, steps=baseline.steps)
        case Neighbours():
            classify = nearest_neighbours(train, neighbours=baseline.neighbours)
    right = [
        predicted == sample.label
        for samples in grouped(in_order(tasks.samples(task, data, config.split)), config.batch_size)
        for sample, predicted in zip(samples, classified(classify, samples), strict=True)
    ]
    return {"top1": float(torch.stack(right).float().mean()), "samples": len(right)}


def of_pixels(baseline: OfPixels, task: Segment, config: Evaluate, data: Path) -> dict[str, float]:
    """Segmentation metrics of a pixel classifier."""
    train, classes = tasks.samples(task, data, "train"), len(tasks.label_set(task, data))
    match baseline:
        case Majority():
            classify = majority_class(train, classes)
        case Position():
            classify = position_prior(train, classes)
        case Pixels():
            classify = pixel_classifier(train, pixels=baseline.pixels, steps=baseline.steps, seed=baseline.seed)
    matrix, count = torch.zeros(classes, classes, dtype=torch.int64), 0
    for samples in grouped(in_order(tasks.samples(task, data, config.split)), config.batch_size):
        labels = torch.stack([sample.labels for sample in samples])
        matrix += confusion(classified(classify, samples), labels, classes)
        count += len(samples)
    return {**segmentation_metrics(matrix), "samples": count}


def of_boxes(baseline: Boxes, task: Detect, config: Evaluate, data: Path) -> dict[str, float]:
    """Detection metrics of the same boxes predicted for every image."""
    train = tasks.samples(task, data, "train")
    prior = prior_boxes(train, len(detect.names_of(task, data)), per_class=baseline.per_class, seed=baseline.seed)
    found = Detections(prior.boxes, prior.scores, prior.classes)
    tested = tasks.samples(task, data, config.split)
    counted = DetectionTally(task)
    known = [sample.measured() for sample in in_order(tested)]
    counted.add_found([found] * len(tested), [as_truth(one.objects, one.crowds) for one in known])
    metrics = counted.metrics()
    del metrics["loss"]  # defined for a network's maps only
    return {**metrics, "samples": counted.count}


def classified(classify: Classifier, samples: list[Any]) -> Tensor:
    """Predictions of a classifier for samples of one size."""
    return classify(torch.stack([sample.image for sample in samples]))
