"""Losses: what counts, what it weighs, and what is refused."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from deq_vision.data.classes import CITYSCAPES
from deq_vision.loss import HardPixels, classification_loss, segmentation_loss


def case(*, scale: int = 1, classes: int = 4) -> tuple[Tensor, Tensor]:
    """Logits on a grid and labels `scale` times as fine, a quarter of them ignored."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, classes, 6, 8, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, classes, (2, 6 * scale, 8 * scale), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.25] = 255
    return logits, labels


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 2.0, 0.5, 3.0])])
def test_the_mean_is_over_labelled_pixels_by_weight(weights: Tensor | None) -> None:
    logits, labels = case()
    weight = torch.ones(4) if weights is None else weights
    total, shares = logits.new_zeros(()), logits.new_zeros(())
    for b, y, x in (labels != 255).nonzero().tolist():
        label = int(labels[b, y, x])
        total -= weight[label] * logits[b, :, y, x].log_softmax(0)[label]
        shares += weight[label]
    torch.testing.assert_close(segmentation_loss(logits, labels, weights=weights), total / shares)


@pytest.mark.parametrize("align_corners", [True, False])
def test_logits_are_enlarged_to_the_labels(align_corners: bool) -> None:
    logits, labels = case(scale=4)
    enlarged = F.interpolate(logits, size=(24, 32), mode="bilinear", align_corners=align_corners)
    expected = segmentation_loss(enlarged, labels)
    torch.testing.assert_close(segmentation_loss(logits, labels, align_corners=align_corners), expected)


@pytest.mark.parametrize("hard", [None, HardPixels(at_least=3)])
def test_a_batch_without_labels_has_no_loss(hard: HardPixels | None) -> None:
    logits, labels = case()
    logits.requires_grad_()
    loss = segmentation_loss(logits, torch.full_like(labels, 255), weights=torch.rand(4), hard=hard)
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("probability", [0.05, 0.3, 0.9])
@pytest.mark.parametrize("at_least", [5, 60, 10**6])
def test_hard_pixels_are_the_unsure_ones_or_the_hardest(probability: float, at_least: int) -> None:
    logits, labels = case()
    counted = labels != 255
    sure = logits.softmax(1).gather(1, labels.where(counted, 0)[:, None])[:, 0][counted]
    losses = -sure.log()
    order = sure.sort().values
    bound = max(float(order[min(at_least, len(order) - 1)]), probability)
    expected = losses[sure < bound].mean()
    found = segmentation_loss(logits, labels, hard=HardPixels(probability=probability, at_least=at_least))
    torch.testing.assert_close(found, expected)


def test_cityscapes_has_a_weight_a_class() -> None:
    assert len(CITYSCAPES.weights) == 19
    assert sum(CITYSCAPES.weights) / 19 == pytest.approx(1, abs=0.01)


def test_smoothing_mixes_in_the_mean_over_classes() -> None:
    logits = torch.randn(3, 5, dtype=torch.float64)
    labels = torch.tensor([0, 4, 2])
    sharp, flat = classification_loss(logits, labels), -logits.log_softmax(1).mean()
    torch.testing.assert_close(classification_loss(logits, labels, smoothing=0.2), 0.8 * sharp + 0.2 * flat)
    torch.testing.assert_close(sharp, -logits.log_softmax(1)[[0, 1, 2], labels].mean())


def test_losses_are_at_least_single_precision() -> None:
    logits, labels = case(scale=2)
    assert segmentation_loss(logits.bfloat16(), labels).dtype == torch.float32
    assert classification_loss(torch.zeros(2, 3, dtype=torch.bfloat16), torch.tensor([0, 1])).dtype == torch.float32


@pytest.mark.parametrize(
    ("loss", "arguments"),
    [
        (classification_loss, (torch.zeros(2, 3), torch.zeros(3, dtype=torch.long))),
        (classification_loss, (torch.zeros(2, 3, 4, 4), torch.zeros(2, dtype=torch.long))),
        (segmentation_loss, (torch.zeros(2, 3), torch.zeros(2, dtype=torch.long))),
        (segmentation_loss, (torch.zeros(2, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long))),
    ],
)
def test_shapes_that_do_not_fit_are_refused(loss: Any, arguments: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(ValueError, match=r"expected logits \(B, classes.*got "):
        loss(*arguments)


@pytest.mark.parametrize("wrong", [{"probability": 0.0}, {"probability": 1.5}, {"at_least": 0}])
def test_hard_pixels_need_a_probability_and_a_number(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="probability must be above 0"):
        HardPixels(**wrong)
