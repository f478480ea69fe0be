"""The sequence loss against the recorded ones, and its treatment of invalid pixels."""

import pytest
import torch
from tests.flow.parity import predictions, recorded, target
from torch import Tensor

from deq_flow.training.loss import sequence_loss

RECORDED = recorded("reference")["loss"]


@pytest.mark.parametrize("release", ["v2", "v1", "raft"])
@pytest.mark.parametrize("number", [1, 2, 3, 6, 12])
@pytest.mark.parametrize("gamma", [0.8, 0.85, 0.9])
def test_loss_agrees_with_the_release(release: str, number: int, gamma: float) -> None:
    flow, valid = target()
    flows = predictions(number)
    for name, mask in (("valid", valid), ("all", torch.ones_like(valid))):
        reference = RECORDED[release][f"n{number}_gamma{gamma}_{name}"]["loss"]
        assert sequence_loss(flows, flow, mask, gamma).item() == pytest.approx(reference, rel=1e-6)


@pytest.mark.parametrize("release", ["v2", "v1", "raft"])
def test_gradient_of_the_loss_agrees_with_the_release(release: str) -> None:
    flow, valid = target()
    flows = [prediction.requires_grad_() for prediction in predictions(3)]
    gradients = torch.autograd.grad(sequence_loss(flows, flow, valid), flows)
    norms = [gradient.double().norm().item() for gradient in gradients]
    assert norms == pytest.approx(RECORDED[release]["grad_n3_gamma0.8_valid"], rel=1e-6)


def small() -> tuple[list[Tensor], Tensor, Tensor]:
    flows = [torch.zeros(1, 2, 2, 4), torch.ones(1, 2, 2, 4)]
    flow = torch.full((1, 2, 2, 4), 3.0)
    valid = torch.ones(1, 2, 4, dtype=torch.bool)
    return flows, flow, valid


def test_the_last_prediction_weighs_one_and_each_earlier_one_gamma_less() -> None:
    flows, flow, valid = small()
    assert sequence_loss(flows, flow, valid, gamma=0.5).item() == pytest.approx(0.5 * 3 + 2)


def test_whatever_stands_in_an_invalid_pixel_changes_neither_loss_nor_gradient() -> None:
    flows, flow, valid = small()
    valid[0, 0, 0] = False
    prediction = flows[1].clone().requires_grad_()
    clean = sequence_loss([prediction], flow, valid)
    flow[0, :, 0, 0] = torch.nan
    dirty = sequence_loss([prediction], flow, valid)
    assert dirty.item() == clean.item()
    (gradient,) = torch.autograd.grad(dirty, prediction)
    assert gradient.isfinite().all()
    assert (gradient[0, :, 0, 0] == 0).all()


def test_the_denominator_is_all_pixels_or_the_counted_ones() -> None:
    flows, flow, valid = small()
    valid[0, 0] = False
    assert sequence_loss(flows[1:], flow, valid).item() == pytest.approx(1.0)
    assert sequence_loss(flows[1:], flow, valid, denominator="valid").item() == pytest.approx(2.0)


def test_pixels_that_move_too_far_do_not_count() -> None:
    flows, flow, valid = small()
    flow[0, :, 0, 0] = 300.0  # a length of 424 pixels
    assert sequence_loss(flows[1:], flow, valid).item() == pytest.approx(2 * 7 / 8)
    flow[0, :, 0, 0] = torch.tensor([400.0, 0.0])  # at the limit, which is exclusive
    assert sequence_loss(flows[1:], flow, valid).item() == pytest.approx(2 * 7 / 8)


def test_a_batch_without_valid_pixels_has_loss_zero() -> None:
    flows, flow, valid = small()
    for denominator in ("all", "valid"):
        assert sequence_loss(flows, flow, torch.zeros_like(valid), denominator=denominator).item() == 0.0


def test_an_empty_sequence_is_refused() -> None:
    _, flow, valid = small()
    with pytest.raises(ValueError, match="at least one prediction"):
        sequence_loss([], flow, valid)
