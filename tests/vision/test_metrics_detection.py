"""Average precision: as COCO's own code computes it, and laws of ImageNet VID's."""

import contextlib
import io
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from deq_vision.detection import metrics as metrics_detection
from deq_vision.detection.metrics import Found, Truth, ap50_by_class, coco_metrics, vid_map

CLASSES = 4
NAMES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar1", "ar10", "ar100")


def random_images(seed: int, *, images: int = 12, crowds: bool = True) -> tuple[list[Found], list[Truth]]:
    """Objects of three sizes in images of 300 pixels, and detections near some of them; class 3 is never there.

    Scores and boxes are coarse, so that many are equal.
    """
    rng = np.random.default_rng(seed)
    found, truth = [], []
    for _ in range(images):
        count = int(rng.integers(0, 7))
        corner = rng.integers(0, 200, (count, 2)).astype(float)
        size = rng.choice([8.0, 20.0, 40.0, 60.0, 100.0], (count, 2))
        boxes = np.concatenate([corner, corner + size], axis=1)
        classes = rng.integers(0, 3, count)
        crowd = rng.uniform(size=count) < (0.25 if crowds else 0.0)
        picked = rng.integers(0, count, 2 * count) if count else np.zeros(0, dtype=int)
        near = boxes[picked] + rng.choice([-4.0, 0.0, 0.0, 2.0, 6.0], (len(picked), 4))
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        kinds = np.where(rng.uniform(size=len(picked)) < 0.8, classes[picked], rng.integers(0, CLASSES, len(picked)))
        stray = rng.integers(0, 3)
        place = rng.integers(0, 200, (stray, 2)).astype(float)
        near = np.concatenate([near, np.concatenate([place, place + rng.choice([10.0, 50.0], (stray, 2))], axis=1)])
        kinds = np.concatenate([kinds, rng.integers(0, CLASSES, stray)])
        scores = rng.integers(0, 12, len(near)) / 12
        found.append(Found(torch.from_numpy(near), torch.from_numpy(scores), torch.from_numpy(kinds.astype(np.int64))))
        truth.append(Truth(torch.from_numpy(boxes), torch.from_numpy(classes), torch.from_numpy(crowd)))
    return found, truth


def by_pycocotools(found: Sequence[Found], truth: Sequence[Truth]) -> tuple[dict[str, float], list[float]]:
    """COCO's summary, and AP50 by class, of its own code; -1 where there is nothing to measure."""

    known = COCO()
    known.dataset = cast(
        Any,
        {
            "images": [{"id": image} for image in range(1, len(truth) + 1)],
            "categories": [{"id": kind} for kind in range(1, CLASSES + 1)],
            "annotations": entries(truth),
            "info": {},
        },
    )
    with contextlib.redirect_stdout(io.StringIO()):
        known.createIndex()
        judge = COCOeval(known, known.loadRes(cast(Any, entries(found))), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    precision = judge.eval["precision"][0, :, :, 0, -1]  # (recalls, classes) at 0.5
    values = {name: float(value) for name, value in zip(NAMES, judge.stats, strict=False)}
    return values, precision.mean(axis=0).tolist()


def entries(items: Sequence[Found] | Sequence[Truth]) -> list[dict[str, Any]]:
    """Boxes as COCO writes them."""
    rows: list[dict[str, Any]] = []
    for image, item in enumerate(items, start=1):
        for index, (left, top, right, bottom) in enumerate(item.boxes.tolist()):
            row: dict[str, Any] = {"image_id": image, "category_id": int(item.classes[index]) + 1, "id": len(rows) + 1}
            row["bbox"] = [left, top, right - left, bottom - top]
            if isinstance(item, Found):
                row["score"] = float(item.scores[index])
            else:
                row["area"] = (right - left) * (bottom - top) if item.area is None else float(item.area[index])
                row["iscrowd"] = 0 if item.crowd is None else int(item.crowd[index])
            rows.append(row)
    return rows


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("crowds", [False, True])
def test_coco_metrics_are_those_of_pycocotools(seed: int, crowds: bool) -> None:
    found, truth = random_images(seed, crowds=crowds)
    expected, by_class = by_pycocotools(found, truth)
    ours = coco_metrics(found, truth, CLASSES)
    assert {name: ours.get(name, -1.0) for name in NAMES} == pytest.approx(expected, abs=1e-12)
    assert [-1.0 if value is None else value for value in ap50_by_class(found, truth, CLASSES)] == pytest.approx(
        by_class
    )
    assert 0.02 < ours["ap"] < 0.9


def test_more_than_a_hundred_detections_and_areas_of_masks_are_those_of_pycocotools() -> None:
    found, truth = random_images(0, images=3)
    many = []
    for item in found:
        scores = torch.cat([item.scores - 0.01 * copy for copy in range(30)])
        many.append(Found(item.boxes.repeat(30, 1), scores, item.classes.repeat(30)))
    masks = [Truth(item.boxes, item.classes, item.crowd, item.boxes[:, 2] * 7 % 9500) for item in truth]
    assert max(len(item.boxes) for item in many) > 100
    expected, _ = by_pycocotools(many, masks)
    ours = coco_metrics(many, masks, CLASSES)
    assert {name: ours.get(name, -1.0) for name in NAMES} == pytest.approx(expected, abs=1e-12)


def test_of_objects_that_are_covered_alike_the_last_one_is_taken_as_by_pycocotools() -> None:
    """The second detection covers the last object well and the first one badly."""
    truth = [objects(((0.0, 0.0, 40.0, 40.0), 0), ((10.0, 0.0, 50.0, 40.0), 0))]
    found = [detections(((5.0, 0.0, 45.0, 40.0), 0.9, 0), ((12.0, 0.0, 52.0, 40.0), 0.8, 0))]
    expected, _ = by_pycocotools(found, truth)
    assert coco_metrics(found, truth, CLASSES)["ap"] == pytest.approx(expected["ap"], abs=1e-12)


def boxes(*rows: tuple[float, float, float, float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, 4)


def detections(*rows: tuple[tuple[float, float, float, float], float, int]) -> Found:
    return Found(
        boxes(*(row[0] for row in rows)),
        torch.tensor([row[1] for row in rows], dtype=torch.float64),
        torch.tensor([row[2] for row in rows], dtype=torch.int64),
    )


def objects(*rows: tuple[tuple[float, float, float, float], int]) -> Truth:
    return Truth(boxes(*(row[0] for row in rows)), torch.tensor([row[1] for row in rows], dtype=torch.int64))


A, B, FAR = (0.0, 0.0, 40.0, 40.0), (50.0, 0.0, 90.0, 40.0), (0.0, 100.0, 40.0, 140.0)


def test_finding_everything_and_nothing_else_scores_one() -> None:
    truth = [objects((A, 0), (B, 1)), objects((B, 0))]
    found = [detections((A, 0.3, 0), (B, 0.9, 1)), detections((B, 0.5, 0))]
    assert vid_map(found, truth, 2) == {"map50": 1.0}
    assert coco_metrics(found, truth, 2)["ap"] == pytest.approx(1.0)


def test_the_area_under_the_curve_by_hand() -> None:
    """Right, wrong, right of three objects: precision 1 up to recall 1/3, then 2/3 up to recall 2/3."""
    truth = [objects((A, 0), (B, 0)), objects((A, 0))]
    found = [detections((A, 0.9, 0), (FAR, 0.8, 0)), detections((A, 0.7, 0))]
    assert vid_map(found, truth, 1)["map50"] == pytest.approx(1 / 3 + 2 / 3 * 1 / 3)


def test_a_second_detection_of_an_object_is_wrong() -> None:
    truth = [objects((A, 0), (B, 0))]
    once = [detections((A, 0.9, 0), (B, 0.7, 0))]
    twice = [detections((A, 0.9, 0), (A, 0.8, 0), (B, 0.7, 0))]
    assert vid_map(once, truth, 1)["map50"] == 1
    assert vid_map(twice, truth, 1)["map50"] == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)


def test_classes_that_do_not_occur_do_not_count() -> None:
    truth = [objects((A, 0))]
    found = [detections((A, 0.9, 0), (B, 0.9, 1))]
    assert vid_map(found, truth, 3) == {"map50": 1.0}
    assert ap50_by_class(found, truth, 3) == [pytest.approx(1.0), None, None]


def test_without_objects_there_is_no_score() -> None:
    assert coco_metrics([detections((A, 0.9, 0))], [objects()], 2) == {}
    assert vid_map([detections()], [objects()], 2) == {}


def test_finding_nothing_scores_zero() -> None:
    truth = [objects((A, 0))]
    assert vid_map([detections()], truth, 1) == {"map50": 0.0}
    assert coco_metrics([detections()], truth, 1)["ap"] == 0


def test_small_objects_need_less_by_the_rule_of_the_benchmark() -> None:
    """10 x 10 pixels: 100 / 400 instead of a half; 100 x 100 pixels: a half."""
    small, large = (0.0, 0.0, 10.0, 10.0), (0.0, 0.0, 100.0, 100.0)
    shifted = [(5.0, 0.0, 15.0, 10.0), (50.0, 0.0, 150.0, 100.0)]  # a third each
    for box, guess, expected in ((small, shifted[0], 1.0), (large, shifted[1], 0.0)):
        truth, found = [objects((box, 0))], [detections((guess, 0.9, 0))]
        assert vid_map(found, truth, 1, loosened=True) == {"map50": expected}
        assert vid_map(found, truth, 1) == {"map50": 0.0}


@pytest.mark.parametrize("seed", range(3))
def test_scores_matter_by_their_order_alone(seed: int) -> None:
    found, truth = random_images(seed)
    cubed = [Found(item.boxes, (1 + item.scores) ** 3, item.classes) for item in found]
    assert vid_map(found, truth, CLASSES) == vid_map(cubed, truth, CLASSES)
    assert coco_metrics(found, truth, CLASSES) == coco_metrics(cubed, truth, CLASSES)


def test_a_detection_more_that_is_surely_wrong_does_no_harm_at_the_end() -> None:
    found, truth = random_images(1)
    longer = [
        Found(
            torch.cat([item.boxes, boxes((250.0, 250.0, 260.0, 260.0))]),
            torch.cat([item.scores, torch.tensor([-1.0])]),
            torch.cat([item.classes, torch.tensor([0])]),
        )
        for item in found
    ]
    assert vid_map(longer, truth, CLASSES) == pytest.approx(vid_map(found, truth, CLASSES))


def test_overlaps_are_areas() -> None:
    targets = np.array([[1.0, 1, 3, 3], [1, 1, 3, 3], [5, 5, 6, 6]])
    found = metrics_detection.overlaps(np.array([[0.0, 0, 2, 2]]), targets, np.array([False, True, False]))
    assert found.tolist() == [[pytest.approx(1 / 7), pytest.approx(1 / 4), 0.0]]


def test_what_does_not_fit_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected boxes"):
        Found(torch.zeros(2, 4), torch.zeros(1), torch.zeros(2, dtype=torch.long))
    with pytest.raises(ValueError, match="scores must be finite"):
        Found(torch.zeros(1, 4), torch.full((1,), float("nan")), torch.zeros(1, dtype=torch.long))
    with pytest.raises(ValueError, match="classes must be whole numbers"):
        Truth(torch.zeros(1, 4), torch.zeros(1))
