"""Average precision of COCO and of ImageNet VID: cases counted by hand, and laws."""

import numpy as np
import pytest
import torch

from deq_core.experiment.tables import numbers
from deq_vision.detection.metrics import Found, Truth, coco_ap50, coco_by_class, coco_metrics, vid_map

CLASSES = 4


def random_images(seed: int, *, images: int = 12) -> tuple[list[Found], list[Truth]]:
    """Objects of three sizes in images of 300 pixels, and detections near some of them; class 3 is never there.

    Scores are coarse, so that many are equal.
    """
    rng = np.random.default_rng(seed)
    found, truth = [], []
    for _ in range(images):
        count = int(rng.integers(0, 7))
        corner = rng.uniform(0, 200, (count, 2))
        known = np.concatenate([corner, corner + rng.choice([8.0, 20.0, 40.0, 60.0, 100.0], (count, 2))], axis=1)
        classes = rng.integers(0, 3, count)
        picked = rng.integers(0, count, 2 * count) if count else np.zeros(0, dtype=int)
        near = known[picked] + rng.uniform(-3, 3, (len(picked), 4))
        kinds = np.where(rng.uniform(size=len(picked)) < 0.8, classes[picked], rng.integers(0, CLASSES, len(picked)))
        scores = rng.integers(0, 12, len(near)) / 12
        found.append(Found(torch.from_numpy(near), torch.from_numpy(scores), torch.from_numpy(kinds)))
        truth.append(Truth(torch.from_numpy(known), torch.from_numpy(classes)))
    return found, truth


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
AR = ("ar1", "ar10", "ar100")


def shifted(box: tuple[float, float, float, float], iou: float) -> tuple[float, float, float, float]:
    """A box of the same size to the right, of this intersection over union."""
    step = (box[2] - box[0]) * (1 - iou) / (1 + iou)
    return box[0] + step, box[1], box[2] + step, box[3]


def test_an_object_that_is_covered_by_four_fifths_is_found_at_seven_of_ten_thresholds() -> None:
    values = coco_metrics([detections((shifted(A, 0.81), 0.9, 0))], [objects((A, 0))], 1)
    assert values == pytest.approx(dict.fromkeys(("ap", "ap_medium", *AR), 0.7) | {"ap50": 1, "ap75": 1})


def test_precision_is_that_at_101_recalls() -> None:
    """Right, wrong, right of three objects: precision 1 at recalls up to 1/3, and 2/3 up to 2/3."""
    truth = [objects((A, 0), (B, 0)), objects((A, 0))]
    found = [detections((A, 0.9, 0), (FAR, 0.8, 0)), detections((A, 0.7, 0))]
    expected = (34 + 33 * 2 / 3) / 101
    assert coco_metrics(found, truth, 1)["ap"] == pytest.approx(expected)
    assert coco_ap50(found, truth, 1) == pytest.approx({"ap50": expected})


def test_sizes_are_those_of_the_objects_where_they_are_given() -> None:
    one = Truth(boxes(A), torch.tensor([0]), area=torch.tensor([100.0]))
    assert coco_metrics([detections((A, 0.9, 0))], [one], 1).keys() == {"ap", "ap50", "ap75", "ap_small", *AR}
    assert "ap_medium" in coco_metrics([detections((A, 0.9, 0))], [objects((A, 0))], 1)


def test_what_is_within_a_crowd_is_neither_right_nor_wrong() -> None:
    crowd = Truth(boxes(A, B), torch.tensor([0, 0]), crowd=torch.tensor([True, False]))
    found = [detections(((0.0, 0.0, 10.0, 10.0), 0.9, 0), ((20.0, 0.0, 30.0, 10.0), 0.8, 0), (B, 0.7, 0))]
    assert coco_metrics(found, [crowd], 1)["ap"] == pytest.approx(1)
    assert coco_metrics(found, [objects((A, 0), (B, 0))], 1)["ap"] < 0.5


def test_recall_is_that_of_so_many_detections_an_image() -> None:
    values = coco_metrics([detections((A, 0.9, 0), (B, 0.8, 0))], [objects((A, 0), (B, 0))], 1)
    assert [values[name] for name in AR] == pytest.approx([0.5, 1, 1])


def test_coco_counts_no_more_than_a_hundred_detections_of_a_class_and_image() -> None:
    wrong, truth = [(FAR, 0.9, 0)] * 100, [objects((A, 0))]
    assert coco_ap50([detections(*wrong, (A, 0.5, 0))], truth, 1) == {"ap50": 0.0}
    assert coco_ap50([detections(*wrong[1:], (A, 0.5, 0))], truth, 1) == {"ap50": pytest.approx(0.01)}
    assert vid_map([detections(*wrong, (A, 0.5, 0))], truth, 1) == {"map50": pytest.approx(1 / 101)}


@pytest.mark.parametrize("seed", range(2))
def test_at_one_half_there_is_one_value(seed: int) -> None:
    found, truth = random_images(seed)
    expected = coco_metrics(found, truth, CLASSES)["ap50"]
    assert coco_ap50(found, truth, CLASSES) == pytest.approx({"ap50": expected})
    assert vid_map(found, truth, CLASSES) == pytest.approx({"map50": expected}, abs=0.01)


def test_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    coco_metrics([detections((A, 0.9, 0))], [objects((A, 0))], 1)
    assert capsys.readouterr() == ("", "")


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
    assert coco_ap50(found, truth, 3) == pytest.approx({"ap50": 1.0})


def test_without_objects_there_is_no_score() -> None:
    assert coco_metrics([detections((A, 0.9, 0))], [objects()], 2) == {}
    assert coco_ap50([detections((A, 0.9, 0))], [objects()], 2) == {}
    assert vid_map([detections()], [objects()], 2) == {}


def test_finding_nothing_scores_zero() -> None:
    truth = [objects((A, 0))]
    assert vid_map([detections()], truth, 1) == {"map50": 0.0}
    assert coco_metrics([detections()], truth, 1)["ap"] == 0


def test_small_objects_need_less_by_the_rule_of_the_benchmark() -> None:
    """10 x 10 pixels: 100 / 400 instead of a half; 100 x 100 pixels: a half."""
    small, large = (0.0, 0.0, 10.0, 10.0), (0.0, 0.0, 100.0, 100.0)
    near = [(5.0, 0.0, 15.0, 10.0), (50.0, 0.0, 150.0, 100.0)]  # a third each
    for box, guess, expected in ((small, near[0], 1.0), (large, near[1], 0.0)):
        truth, found = [objects((box, 0))], [detections((guess, 0.9, 0))]
        assert vid_map(found, truth, 1, loosened=True) == {"map50": expected}
        assert vid_map(found, truth, 1) == {"map50": 0.0}
    empty = (5.0, 5.0, 5.0, 5.0)  # needs 0, but only what overlaps an object can match it
    assert vid_map([detections((small, 0.9, 0))], [objects((empty, 0))], 1, loosened=True) == {"map50": 0.0}


def test_what_does_not_fit_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected boxes"):
        Found(torch.zeros(2, 4), torch.zeros(1), torch.zeros(2, dtype=torch.long))
    with pytest.raises(ValueError, match="classes must be whole numbers"):
        Truth(torch.zeros(1, 4), torch.zeros(1))


def test_the_metrics_are_the_means_of_those_of_the_classes_that_occur() -> None:
    found, truth = random_images(5)
    rows = coco_by_class(found, truth, ["a", "b", "c", "never"])
    whole = coco_metrics(found, truth, CLASSES)
    for name in ("ap", "ap50"):
        assert np.mean(numbers(rows[:3], name)) == pytest.approx(whole[name])
        assert rows[3][name] is None
    assert [row["objects"] for row in rows] == [
        sum(int((one.classes == index).sum()) for one in truth) for index in range(CLASSES)
    ]
