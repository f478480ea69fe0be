"""Top-k, and the Cityscapes protocol: values known by hand, and laws that tell it from its neighbours."""

import pytest
import torch

from deq_vision.data.samples import IGNORE_INDEX
from deq_vision.metrics import confusion, correct, intersection_over_union, segmentation_metrics


def test_top_k_counts_the_classes_before_the_true_one() -> None:
    logits = torch.tensor([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0], [1.0, 3.0, 2.0]], dtype=torch.float64)
    labels = torch.tensor([0, 0, 2])
    assert correct(logits, labels).tolist() == [True, False, False]
    assert correct(logits, labels, 2).tolist() == [True, False, True]
    assert correct(logits, labels, 3).all()


def test_a_network_that_says_nothing_is_right_for_one_class_alone() -> None:
    logits = torch.zeros(4, 4)
    assert correct(logits, torch.arange(4)).tolist() == [True, False, False, False]
    assert correct(logits, torch.arange(4), 2).tolist() == [True, True, False, False]


@pytest.mark.parametrize("k", [0, 4])
def test_k_must_be_a_number_of_classes(k: int) -> None:
    with pytest.raises(ValueError, match=f"k must be from 1 to the 3 classes, got {k}"):
        correct(torch.zeros(2, 3), torch.zeros(2, dtype=torch.long), k)
    with pytest.raises(ValueError, match=r"got \(2, 3\) and \(3,\)"):
        correct(torch.zeros(2, 3), torch.zeros(3, dtype=torch.long))


def test_segmentation_by_hand() -> None:
    labels = torch.tensor([[0, 0, 1, 1], [2, IGNORE_INDEX, 1, 1]], dtype=torch.uint8)
    predicted = torch.tensor([[0, 1, 1, 1], [2, 0, 1, 0]])
    matrix = confusion(predicted, labels, 3)
    assert matrix.tolist() == [[1, 1, 0], [1, 3, 0], [0, 0, 1]]
    assert intersection_over_union(matrix).tolist() == pytest.approx([1 / 3, 3 / 5, 1.0])
    found = segmentation_metrics(matrix)
    assert found["miou"] == pytest.approx((1 / 3 + 3 / 5 + 1) / 3)
    assert found["accuracy"] == pytest.approx(5 / 7)
    assert found["mean_accuracy"] == pytest.approx((1 / 2 + 3 / 4 + 1) / 3)


def test_a_class_that_is_nowhere_counts_as_zero_as_released() -> None:
    matrix = confusion(torch.zeros(3, dtype=torch.long), torch.zeros(3, dtype=torch.long), 19)
    assert segmentation_metrics(matrix) == {"miou": 1 / 19, "accuracy": 1.0, "mean_accuracy": 1 / 19}


def test_an_empty_set_has_no_score_but_zero() -> None:
    assert segmentation_metrics(torch.zeros(3, 3, dtype=torch.long)) == {
        "miou": 0.0,
        "accuracy": 0.0,
        "mean_accuracy": 0.0,
    }


def test_classes_out_of_range_are_an_error() -> None:
    with pytest.raises(ValueError, match="predictions must be from 0 to 2 where they are measured, got 3 to 3"):
        confusion(torch.tensor([3]), torch.tensor([0]), 3)
    with pytest.raises(ValueError, match="labels must be from 0 to 2 where they are measured, got 4 to 4"):
        confusion(torch.tensor([0]), torch.tensor([4]), 3)
    with pytest.raises(ValueError, match=r"the shape of the labels \(2,\), got \(1,\)"):
        confusion(torch.tensor([0]), torch.tensor([0, 0]), 3)
