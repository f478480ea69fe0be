"""Boxes: overlaps of known boxes, and suppression against a slow reference."""

import pytest
import torch
from torch import Tensor

from deq_vision.detection.boxes import box_iou, generalized_box_iou, non_maximum_suppression


def random_boxes(count: int, seed: int) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    corners = 40 * torch.rand(count, 2, generator=draws, dtype=torch.float64)
    return torch.cat([corners, corners + 1 + 30 * torch.rand(count, 2, generator=draws, dtype=torch.float64)], dim=1)


def slow_overlap(a: list[float], b: list[float]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    both = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / both


def slow_suppression(boxes: Tensor, scores: Tensor, classes: Tensor, threshold: float) -> list[int]:
    kept: list[int] = []
    for place in sorted(range(len(boxes)), key=lambda index: -float(scores[index])):
        rivals = [index for index in kept if classes[index] == classes[place]]
        if all(slow_overlap(boxes[place].tolist(), boxes[index].tolist()) <= threshold for index in rivals):
            kept.append(place)
    return kept


def test_overlaps_of_known_boxes() -> None:
    boxes = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 4], [10, 10, 11, 11]])
    expected = torch.tensor([[1.0, 0.5, 0], [0.5, 1, 0], [0, 0, 1]])
    torch.testing.assert_close(box_iou(boxes, boxes), expected)


def test_the_generalized_box_iou_says_how_far_boxes_are_apart() -> None:
    box = torch.tensor([[0.0, 0, 2, 2]])
    assert generalized_box_iou(box, box).item() == 1
    near, far = (generalized_box_iou(box, box + shift).item() for shift in (3.0, 30.0))
    assert near == pytest.approx(-(25 - 8) / 25), "the hull is 5 by 5, of which both cover 8"
    assert -1 < far < near


def test_the_generalized_box_iou_draws_boxes_together_that_do_not_meet() -> None:
    box = torch.tensor([[0.0, 0, 2, 2]], requires_grad=True)
    generalized_box_iou(box, torch.tensor([[5.0, 0, 7, 2]])).sum().backward()
    assert box.grad is not None
    assert box.grad[0, 2] > 0, "the right edge moves to the right"


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 1.0])
def test_suppression_keeps_what_a_slow_reference_keeps(threshold: float) -> None:
    for seed in range(5):
        boxes = random_boxes(60, seed)
        draws = torch.Generator().manual_seed(100 + seed)
        scores, classes = torch.rand(60, generator=draws), torch.randint(3, (60,), generator=draws)
        kept = non_maximum_suppression(boxes, scores, classes, threshold)
        assert kept.tolist() == slow_suppression(boxes, scores, classes, threshold)


def test_of_equal_scores_the_earlier_is_kept() -> None:
    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 5]])
    assert non_maximum_suppression(boxes, torch.ones(2), torch.zeros(2, dtype=torch.long), 0.5).tolist() == [0]


def test_nothing_is_kept_of_nothing() -> None:
    none = torch.zeros(0)
    assert len(non_maximum_suppression(torch.zeros(0, 4), none, none.long(), 0.5)) == 0
