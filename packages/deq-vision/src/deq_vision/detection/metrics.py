"""Average precision of detections: COCO's (Lin et al., ECCV 2014) from pycocotools, and that of ImageNet VID."""

from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Any

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from deq_core.experiment.tables import Row
from deq_vision.detection.boxes import area, box_iou

SUMMARY = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar1", "ar10", "ar100")
"""Names of the first values of COCO's summary."""
LIMIT = 100  # maximum number of detections per image and class in COCO's average precision
VID_MARGIN = 10.0  # pixels; see `vid_map`


@dataclass(frozen=True)
class Found:
    """Detections in one image.

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
    """Annotated objects in one image.

    Raises:
        ValueError: the numbers of boxes, classes and so on differ.
    """

    boxes: Tensor
    """(m, 4): left, top, right, bottom."""
    classes: Tensor
    """int64 (m,)."""
    crowd: Tensor | None = None
    """bool (m,), for COCO: whether the box surrounds many objects. Detections within it count neither as right nor as
    wrong."""
    area: Tensor | None = None
    """(m,), for COCO: areas of the objects in pixels, if other than those of their boxes."""

    def __post_init__(self) -> None:
        others = {"crowd": self.crowd, "area": self.area}
        check_boxes(
            self.boxes, classes=self.classes, **{key: value for key, value in others.items() if value is not None}
        )

    def with_crowds(self, boxes: Tensor, classes: Tensor) -> "Truth":
        """The objects, with crowds of these boxes (n, 4) and classes (n,) added."""
        return Truth(
            torch.cat([self.boxes, boxes]),
            torch.cat([self.classes, classes]),
            crowd=torch.arange(len(self.boxes) + len(boxes)) >= len(self.boxes),
            area=torch.cat([area(self.boxes) if self.area is None else self.area, area(boxes)]),
        )

    def of_class(self, index: int) -> Tensor:
        """bool (m,): whether a box is of a single object of the class."""
        mine = self.classes == index
        return mine if self.crowd is None else mine & ~self.crowd


def coco_metrics(found: Sequence[Found], truth: Sequence[Truth], classes: int) -> dict[str, float]:
    """COCO's average precision and recall over the images of a data set, means over the classes that occur.

    Returns:
        ap: mean over IoU thresholds of 0.5, 0.55, ..., 0.95. ap50, ap75: at one threshold. ap_small, ap_medium,
        ap_large: for objects of up to 32², up to 96² and more pixels. ar1, ar10, ar100: recall with that many
        detections per class and image. Values without an object to measure are left out.
    """
    evaluation = _prepared(found, truth, classes)
    with redirect_stdout(StringIO()):  # pycocotools prints its progress
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: float(value) for name, value in zip(SUMMARY, evaluation.stats, strict=False) if value > -1}


def coco_by_class(found: Sequence[Found], truth: Sequence[Truth], names: Sequence[str]) -> list[Row]:
    """One row per class: class, ap and ap50 as in `coco_metrics` (None without an object), and number of objects."""
    evaluation = _prepared(found, truth, len(names))
    with redirect_stdout(StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # by IoU threshold, recall and class; -1: no objects
    rows: list[Row] = []
    for index, name in enumerate(names):
        count = sum(int(one.of_class(index).sum()) for one in truth)
        ap, ap50 = (float(part.mean()) if count else None for part in (precision[:, :, index], precision[0, :, index]))
        rows.append({"class": name, "ap": ap, "ap50": ap50, "objects": count})
    return rows


def coco_ap50(found: Sequence[Found], truth: Sequence[Truth], classes: int) -> dict[str, float]:
    """The ap50 of `coco_metrics` alone, at less cost."""
    evaluation = _prepared(found, truth, classes)
    evaluation.params.iouThrs = np.array([0.5])
    evaluation.params.areaRng = evaluation.params.areaRng[:1]
    evaluation.params.maxDets = [LIMIT]
    with redirect_stdout(StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"]  # -1 for a class without objects
    return {"ap50": float(precision[precision > -1].mean())} if (precision > -1).any() else {}


def _prepared(found: Sequence[Found], truth: Sequence[Truth], classes: int) -> COCOeval:
    if len(found) != len(truth):
        raise ValueError(f"expected detections and objects of as many images, got {len(found)} and {len(truth)}")
    with redirect_stdout(StringIO()):
        return COCOeval(_data_set(truth, classes), _data_set(found, classes), "bbox")


def _data_set(images: Sequence[Found] | Sequence[Truth], classes: int) -> COCO:
    """Boxes in the format of pycocotools: left, top, width and height, with ids from 1."""
    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(images, start=1):
        boxes = image.boxes.double()
        sides = boxes[:, 2:] - boxes[:, :2]
        columns = {"category_id": image.classes, "bbox": torch.cat([boxes[:, :2], sides], dim=1), "area": area(boxes)}
        if isinstance(image, Found):
            columns["score"] = image.scores
        else:
            columns["area"] = columns["area"] if image.area is None else image.area
            columns["iscrowd"] = torch.zeros(len(boxes)) if image.crowd is None else image.crowd
        for values in zip(*(column.tolist() for column in columns.values()), strict=True):
            row = dict(zip(columns, values, strict=True))
            annotations.append({"image_id": number, "id": len(annotations) + 1, **row})
    contents: Any = {
        "images": [{"id": number} for number in range(1, len(images) + 1)],
        "categories": [{"id": index} for index in range(classes)],
        "annotations": annotations,
    }
    data = COCO()
    data.dataset = contents
    data.createIndex()
    return data


def vid_map(
    found: Sequence[Found], truth: Sequence[Truth], classes: int, *, loosened: bool = False
) -> dict[str, float]:
    """map50, the mean over the classes that occur of ImageNet VID's average precision, the area under the curve.

    A detection is right if its intersection over union with an object of its class, not yet taken by a better
    detection, is at least 0.5, as papers on VID report. `loosened` applies the benchmark's own rule, by which small
    objects of w x h pixels need less: min(0.5, w h / ((w + 10) (h + 10))).
    """
    areas = [_area_under_curve(found, truth, index, loosened) for index in range(classes)]
    occurring = [value for value in areas if value is not None]
    return {"map50": float(np.mean(occurring))} if occurring else {}


def _area_under_curve(found: Sequence[Found], truth: Sequence[Truth], index: int, loosened: bool) -> float | None:
    """Area under the precision-recall curve of one class; on equal scores, earlier images come first."""
    scores, right, objects = [], [], 0
    for guess, known in zip(found, truth, strict=True):
        mine, targets = guess.classes == index, known.boxes[known.of_class(index)].double()
        order = guess.scores[mine].argsort(descending=True, stable=True)
        scores.append(guess.scores[mine][order])
        right.append(_matched(guess.boxes[mine][order].double(), targets, loosened))
        objects += len(targets)
    if not objects:
        return None
    order = torch.cat(scores).argsort(descending=True, stable=True).numpy()
    hits = np.concatenate(right)[order]
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]  # best precision at that recall or more
    return float((np.diff(np.cumsum(hits) / objects, prepend=0.0) * best).sum())


def _matched(boxes: Tensor, targets: Tensor, loosened: bool) -> np.ndarray:
    """bool (n,): whether each of the boxes (n, 4), sorted by descending score, matches one of the targets (m, 4).

    Each box takes the target of highest IoU among those that are left and that it covers well enough.
    """
    right = np.zeros(len(boxes), dtype=bool)
    overlap, needed = box_iou(boxes, targets).numpy(), np.full(len(targets), 0.5)
    if loosened:
        larger = targets + torch.tensor([0.0, 0.0, VID_MARGIN, VID_MARGIN])
        needed = np.minimum(needed, (area(targets) / area(larger)).numpy())
    for place in np.flatnonzero((overlap >= needed).any(axis=1)):
        able = np.where(overlap[place] >= needed, overlap[place], 0.0)
        best = able.argmax()
        if able[best] > 0:
            right[place], needed[best] = True, np.inf
    return right


def check_boxes(boxes: Tensor, **others: Tensor) -> None:
    """Raises ValueError unless boxes are (n, 4) and the others (n,)."""
    shapes = {name: tuple(values.shape) for name, values in others.items()}
    if boxes.ndim != 2 or boxes.shape[1] != 4 or set(shapes.values()) != {(len(boxes),)}:
        raise ValueError(f"expected boxes (n, 4) and {', '.join(others)} (n,), got {tuple(boxes.shape)} and {shapes}")
    if torch.is_floating_point(others["classes"]):
        raise ValueError(f"classes must be whole numbers, got {others['classes'].dtype}")
