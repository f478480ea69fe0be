"""Predictors without a network, which use raw pixels, positions or class frequencies."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from deq_core.experiment.data.batches import SampleSet, in_order
from deq_vision.data.samples import IGNORE_INDEX, AnnotatedImage, LabelledImage, SegmentedImage
from deq_vision.detection.boxes import box_iou

Classifier = Callable[[Tensor], Tensor]
"""Function from images uint8 (b, 3, h, w) to classes int64 (b,), or (b, h, w) for segmentation."""


def linear_classifier(samples: SampleSet[LabelledImage], *, strength: float = 1e-3, steps: int = 50) -> Classifier:
    """Multinomial logistic regression of standardised pixels.

    Args:
        samples: training images of one size.
        strength: inverse of the weight of the L2 penalty.
        steps: maximum number of L-BFGS iterations.
    """
    pixels, labels = flat(samples)
    mean, spread = pixels.mean(axis=0), pixels.std(axis=0).clip(min=1e-3)
    model = fitted(LogisticRegression(C=strength, max_iter=steps), (pixels - mean) / spread, labels)
    return lambda images: predicted(model, (rows(images) - mean) / spread)


def nearest_neighbours(samples: SampleSet[LabelledImage], *, neighbours: int = 5) -> Classifier:
    """Nearest neighbours in pixel space: the most frequent class among the nearest training images."""
    model = KNeighborsClassifier(neighbours).fit(*flat(samples))
    return lambda images: predicted(model, rows(images))


def majority_class(samples: SampleSet[SegmentedImage], classes: int) -> Classifier:
    """The most frequent class of pixels, predicted everywhere."""
    counts = sum(torch.bincount(sample.labels.flatten().long(), minlength=256) for sample in in_order(samples))
    most = int(torch.as_tensor(counts)[:classes].argmax())
    return lambda images: torch.full((len(images), *images.shape[2:]), most)


def position_prior(samples: SampleSet[SegmentedImage], classes: int) -> Classifier:
    """The most frequent class at each pixel position; all samples and images have one size."""
    counts = torch.zeros(classes, *samples[0].labels.shape, dtype=torch.int64)
    for sample in in_order(samples):
        counts += torch.stack([sample.labels == place for place in range(classes)])
    prior = counts.argmax(dim=0)
    return lambda images: prior.expand(len(images), *prior.shape)


def pixel_classifier(
    samples: SampleSet[SegmentedImage], *, pixels: int = 40_000, steps: int = 200, seed: int = 0
) -> Classifier:
    """Logistic regression of single pixels on their colour and position, with second-order features.

    Args:
        samples: training images of one size.
        pixels: number of pixels, drawn at random, to fit to.
        steps: maximum number of L-BFGS iterations.
        seed: seed of that draw.
    """
    features, labels = [], []
    rng = np.random.default_rng(seed)
    share = -(-pixels // len(samples))
    for sample in in_order(samples):
        known = np.flatnonzero(sample.labels.flatten().numpy() != IGNORE_INDEX)
        chosen = rng.choice(known, min(share, len(known)), replace=False)
        features.append(colours_and_places(sample.image[None])[chosen])
        labels.append(sample.labels.flatten().numpy()[chosen])
    model = fitted(LogisticRegression(max_iter=steps), np.concatenate(features), np.concatenate(labels))

    def predict(images: Tensor) -> Tensor:
        return predicted(model, colours_and_places(images)).reshape(len(images), *images.shape[2:])

    return predict


@dataclass(frozen=True)
class PriorBoxes:
    """Detections predicted for every image, whatever it shows."""

    boxes: Tensor
    """float32 (n, 4)."""
    scores: Tensor
    """float32 (n,): share of the images in which the box has an IoU of at least 0.5 with an object of its class."""
    classes: Tensor
    """int64 (n,)."""


def prior_boxes(samples: SampleSet[AnnotatedImage], classes: int, *, per_class: int = 1, seed: int = 0) -> PriorBoxes:
    """The mean box of each class, or of `per_class` clusters of its boxes; all images have one size."""
    objects = [sample.objects for sample in in_order(samples)]
    boxes, scores, labels = [], [], []
    for place in range(classes):
        each = [entry.boxes[entry.classes == place] for entry in objects]
        known = torch.cat(each)
        if not len(known):
            continue
        clusters = KMeans(min(per_class, len(known)), random_state=seed).fit(known.numpy())
        for box in torch.from_numpy(clusters.cluster_centers_).float():
            boxes.append(box)
            scores.append(sum(bool((box_iou(box[None], mine) >= 0.5).any()) for mine in each) / len(each))
            labels.append(place)
    stacked = torch.stack(boxes) if boxes else torch.zeros(0, 4)
    return PriorBoxes(stacked, torch.tensor(scores), torch.tensor(labels, dtype=torch.int64))


def flat(samples: SampleSet[LabelledImage]) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (n, 3 h w) and labels (n,)."""
    found = list(in_order(samples))
    return rows(torch.stack([sample.image for sample in found])), np.array([sample.label for sample in found])


def rows(images: Tensor) -> np.ndarray:
    """Images as rows of features, float32 (b, 3 h w), from 0 to 1."""
    return rearrange(images, "b c h w -> b (c h w)").numpy().astype(np.float32) / 255


def colours_and_places(images: Tensor) -> np.ndarray:
    """Pixel features, float32 (b h w, 20): red, green, blue, column, row from -1 to 1, and products of two of them."""
    count, _, height, width = images.shape
    column = np.broadcast_to(np.linspace(-1, 1, width), (count, height, width))
    row = np.broadcast_to(np.linspace(-1, 1, height)[:, None], (count, height, width))
    colour = rearrange(images.numpy(), "b c h w -> c b h w") / 127.5 - 1
    values = rearrange([*colour, column, row], "feature b h w -> (b h w) feature").astype(np.float32)
    products = [values[:, left] * values[:, right] for left in range(5) for right in range(left, 5)]
    return np.column_stack([values, *products])


def fitted(model: LogisticRegression, values: np.ndarray, labels: np.ndarray) -> LogisticRegression:
    """Fits the model without a warning if it has not converged."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(values, labels)


def predicted(model: LogisticRegression | KNeighborsClassifier, values: np.ndarray) -> Tensor:
    """Predicted classes, int64 (n,), of rows (n, features)."""
    return torch.from_numpy(np.asarray(model.predict(values)).astype(np.int64))
