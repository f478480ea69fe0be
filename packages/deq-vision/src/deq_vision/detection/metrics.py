"""Average precision of detections: that of COCO, and that of ImageNet VID.

The protocol of COCO is that of its evaluation code (Lin et al., ECCV 2014), against which tests check this.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

THRESHOLDS = np.linspace(0.5, 0.95, 10)  # of the intersection over union
RECALLS = np.linspace(0, 1, 101)  # at which COCO samples precision
AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
"""Least and greatest area of the objects that count, pixels."""
LIMIT = 100  # detections of an image and class that count
VID_MARGIN = 10.0  # pixels; see `vid_map`


@dataclass(frozen=True)
class Found:
    """What a detector found in one image.

    Raises:
        ValueError: the numbers of boxes, scores and classes differ, or a box or score is not finite.
    """

    boxes: Tensor
    """(n, 4): left, top, right, bottom."""
    scores: Tensor
    """(n,)."""
    classes: Tensor
    """int64 (n,)."""

    def __post_init__(self) -> None:
        check_boxes(self.boxes, scores=self.scores, classes=self.classes)
        if not (self.boxes.isfinite().all() and self.scores.isfinite().all()):
            raise ValueError("boxes and scores must be finite")


@dataclass(frozen=True)
class Truth:
    """What is in one image.

    Raises:
        ValueError: the numbers of boxes, classes and so on differ.
    """

    boxes: Tensor
    """(m, 4): left, top, right, bottom."""
    classes: Tensor
    """int64 (m,)."""
    crowd: Tensor | None = None
    """bool (m,): a box around many objects. Detections within it count neither as right nor as wrong."""
    area: Tensor | None = None
    """(m,), pixels: of the objects, where that is not the area of their boxes."""

    def __post_init__(self) -> None:
        others = {"crowd": self.crowd, "area": self.area}
        check_boxes(
            self.boxes, classes=self.classes, **{key: value for key, value in others.items() if value is not None}
        )


def coco_metrics(found: Sequence[Found], truth: Sequence[Truth], classes: int) -> dict[str, float]:
    """COCO's average precision and recall over the images of a data set, means over the classes that occur.

    Returns:
        ap: mean over the `THRESHOLDS`. ap50, ap75: at one of them. ap_small, ap_medium, ap_large: of objects of these
        `AREAS`. ar1, ar10, ar100: recall with that many detections of each class and image, mean over the thresholds. A
        value without an object to measure is left out.
    """
    values: dict[str, float] = {}
    tables = {area: [curve(found, truth, index, AREAS[area]) for index in range(classes)] for area in AREAS}
    everything = [table for table in tables["all"] if table is not None]
    if not everything:
        return values
    precision = np.stack([table.precision for table in everything])  # (classes, thresholds, recalls)
    values["ap"] = float(precision.mean())
    values["ap50"] = float(precision[:, 0].mean())
    values["ap75"] = float(precision[:, 5].mean())
    for area in ("small", "medium", "large"):
        some = [table.precision for table in tables[area] if table is not None]
        if some:
            values[f"ap_{area}"] = float(np.stack(some).mean())
    for limit in (1, 10):
        some = [curve(found, truth, index, AREAS["all"], limit=limit) for index in range(classes)]
        values[f"ar{limit}"] = float(np.stack([table.recall for table in some if table is not None]).mean())
    values["ar100"] = float(np.stack([table.recall for table in everything]).mean())
    return values


def ap50_by_class(found: Sequence[Found], truth: Sequence[Truth], classes: int) -> list[float | None]:
    """COCO's AP50 of each class, None where it does not occur."""
    tables = [curve(found, truth, index, AREAS["all"]) for index in range(classes)]
    return [None if table is None else float(table.precision[0].mean()) for table in tables]


def vid_map(
    found: Sequence[Found], truth: Sequence[Truth], classes: int, *, loosened: bool = False
) -> dict[str, float]:
    """map50: mean over the classes that occur of ImageNet VID's average precision, the area under the curve.

    A detection is right if it covers an object of its class that no better one did, with an intersection over union of
    at least 0.5. Papers on VID report that. `loosened` is for the benchmark's own rule, by which an object of w x h
    pixels needs less where it is small: min(0.5, w h / ((w + 10) (h + 10))).
    """

    def needed(boxes: np.ndarray) -> np.ndarray:
        width, height = (boxes[:, 2:] - boxes[:, :2]).T
        least = (
            width * height / ((width + VID_MARGIN) * (height + VID_MARGIN)) if loosened else np.full(len(boxes), 0.5)
        )
        return np.minimum(0.5, least)[None, :]

    areas = []
    for index in range(classes):
        ranked = rank(found, truth, index, AREAS["all"], needed, LIMIT)
        if ranked.objects:
            recall, precision = ranked.curve(0)
            areas.append(float((np.diff(recall, prepend=0.0) * precision).sum()))
    return {"map50": float(np.mean(areas))} if areas else {}


@dataclass(frozen=True)
class Curve:
    """Of one class."""

    precision: np.ndarray
    """(thresholds, recalls): the best with at least that recall, 0 where it is not reached."""
    recall: np.ndarray
    """(thresholds,), of all detections."""


def curve(
    found: Sequence[Found], truth: Sequence[Truth], index: int, area: tuple[float, float], *, limit: int = LIMIT
) -> Curve | None:
    """COCO's curve of the class `index`, None where no object counts."""
    ranked = rank(found, truth, index, area, lambda boxes: np.repeat(THRESHOLDS[:, None], len(boxes), axis=1), limit)
    if not ranked.objects:
        return None
    sampled, reached = np.zeros((len(THRESHOLDS), len(RECALLS))), np.zeros(len(THRESHOLDS))
    for threshold in range(len(THRESHOLDS)):
        recall, precision = ranked.curve(threshold)
        if len(recall):
            reached[threshold] = recall[-1]
        places = np.searchsorted(recall, RECALLS, side="left")
        inside = places < len(recall)
        sampled[threshold, inside] = precision[places[inside]]
    return Curve(sampled, reached)


@dataclass(frozen=True)
class Ranked:
    """The detections of a class in all images, the surest first."""

    right: np.ndarray
    """bool (thresholds, n)."""
    counts: np.ndarray
    """bool (thresholds, n): False for those that found a crowd or an object of another size."""
    objects: int
    """How many there are to find."""

    def curve(self, threshold: int) -> tuple[np.ndarray, np.ndarray]:
        """Recall and precision (n,) with more and more detections; precision is the best with at least that recall."""
        right = np.cumsum(self.right[threshold] & self.counts[threshold])
        wrong = np.cumsum(~self.right[threshold] & self.counts[threshold])
        precision = right / np.maximum(right + wrong, 1)
        return right / self.objects, np.maximum.accumulate(precision[::-1])[::-1]


def rank(
    found: Sequence[Found],
    truth: Sequence[Truth],
    index: int,
    area: tuple[float, float],
    needed: Callable[[np.ndarray], np.ndarray],
    limit: int,
) -> Ranked:
    """All detections of the class `index`, matched image by image; of equal scores, those of earlier images come first.

    Args:
        found: detections of each image.
        truth: objects of each image.
        index: the class.
        area: of the objects that count, pixels.
        needed: (thresholds, m) intersections over union that objects with boxes (m, 4) ask for.
        limit: detections of an image that count.

    Raises:
        ValueError: there are not as many images of both.
    """
    matches = []
    objects = 0
    for guess, known in zip(found, truth, strict=True):
        mine, theirs = guess.classes == index, known.classes == index
        if not mine.any() and not theirs.any():
            continue
        boxes, scores = numbers(guess.boxes[mine]), numbers(guess.scores[mine])
        order = np.argsort(-scores, kind="stable")[:limit]
        crowd = np.zeros(int(theirs.sum()), dtype=bool) if known.crowd is None else known.crowd[theirs].cpu().numpy()
        targets = numbers(known.boxes[theirs])
        sizes = extent(targets) if known.area is None else numbers(known.area[theirs])
        unwanted = crowd | (sizes < area[0]) | (sizes > area[1])
        objects += int((~unwanted).sum())
        right, counts = match(boxes[order], targets, crowd, unwanted, needed(targets))
        outside = (extent(boxes[order]) < area[0]) | (extent(boxes[order]) > area[1])
        matches.append((scores[order], right, counts & (right | ~outside)))
    if not matches:
        thresholds = len(needed(np.zeros((0, 4))))
        return Ranked(np.zeros((thresholds, 0), dtype=bool), np.zeros((thresholds, 0), dtype=bool), objects)
    scores = np.concatenate([entry[0] for entry in matches])
    order = np.argsort(-scores, kind="stable")
    right, counts = (np.concatenate([entry[place] for entry in matches], axis=1)[:, order] for place in (1, 2))
    return Ranked(right, counts, objects)


def match(
    boxes: np.ndarray, targets: np.ndarray, crowd: np.ndarray, unwanted: np.ndarray, needed: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Which detections found an object, and which count, bool (thresholds, n) each.

    Each takes, of the objects that are left and that it covers well enough, the one it covers best, and one that is
    unwanted only where no other is left. Crowds are always left.

    Args:
        boxes: (n, 4), the surest first.
        targets: (m, 4).
        crowd: bool (m,).
        unwanted: bool (m,), crowds among them: what finds one of them does not count.
        needed: (thresholds, m), the least intersection over union.
    """
    right = np.zeros((len(needed), len(boxes)), dtype=bool)
    counts = np.ones_like(right)
    if not len(boxes) or not len(targets):
        return right, counts
    overlap = overlaps(boxes, targets, crowd)
    least = np.minimum(needed, 1 - 1e-10)  # so that equal boxes match at 1 despite rounding
    left = np.ones((len(needed), len(targets)), dtype=bool)
    order = np.argsort(unwanted, kind="stable")  # the wanted first; of equal overlaps the last one is taken
    for place in np.flatnonzero((overlap[:, None, :] >= least).any(axis=(1, 2))):
        able = left & (overlap[place] >= least)
        wanted = able & ~unwanted
        able = np.where(wanted.any(axis=1, keepdims=True), wanted, able)[:, order]
        values = np.where(able, overlap[place][order], -1.0)
        taken = order[values.shape[1] - 1 - values[:, ::-1].argmax(axis=1)]
        hit = able.any(axis=1)
        right[:, place] = hit
        counts[:, place] = ~hit | ~unwanted[taken]
        found = np.flatnonzero(hit & ~crowd[taken])
        left[found, taken[found]] = False
    return right, counts


def overlaps(boxes: np.ndarray, targets: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """(n, m): intersection over union of boxes (n, 4) and targets (m, 4); over the box alone where that is a crowd."""
    low = np.maximum(boxes[:, None, :2], targets[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], targets[None, :, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=2)
    alone = extent(boxes)[:, None]
    union = np.where(crowd[None, :], alone, alone + extent(targets)[None, :] - shared)
    return shared / np.maximum(union, np.finfo(np.float64).tiny)


def extent(boxes: np.ndarray) -> np.ndarray:
    """(n,), areas of boxes (n, 4)."""
    return np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)


def numbers(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()


def check_boxes(boxes: Tensor, **others: Tensor) -> None:
    """Raises ValueError unless boxes are (n, 4) and the others (n,)."""
    shapes = {name: tuple(values.shape) for name, values in others.items()}
    if boxes.ndim != 2 or boxes.shape[1] != 4 or set(shapes.values()) != {(len(boxes),)}:
        raise ValueError(f"expected boxes (n, 4) and {', '.join(others)} (n,), got {tuple(boxes.shape)} and {shapes}")
    if torch.is_floating_point(others["classes"]):
        raise ValueError(f"classes must be whole numbers, got {others['classes'].dtype}")
