"""Targets of known boxes; what is decoded from them; and the loss, least where the map holds them."""

import math

import pytest
import torch
from torch import Tensor

from deq_vision.data.samples import Objects
from deq_vision.detection.decoding import Decoding, decode, detect, encode
from deq_vision.detection.targets import DetectionLoss, Targets, detection_loss, focal_loss, targets
from deq_vision.models.detection import BOX

GRID, STRIDE, CLASSES, SPREAD = (8, 16), 4, 3, 0.54


def objects(*rows: tuple[tuple[float, float, float, float], int]) -> Objects:
    return Objects.of([(box, kind, -1, False) for box, kind in rows])


THREE = objects(((1, 2, 24, 17), 0), ((30.5, 10, 33, 13), 1), ((40, 4, 64, 32), 0))


def as_map(wanted: Targets) -> Tensor:
    """The map whose scores and boxes are the targets."""
    heat = wanted.heat.clamp(1e-6, 1 - 1e-6)
    height, width = GRID
    cells = torch.stack(torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy"), dim=-1)
    boxes = wanted.boxes.reshape(-1, 4)
    usable = boxes + torch.tensor([0.0, 0, 1, 1]) * (boxes[:, 2:] <= boxes[:, :2]).any(1, keepdim=True)
    values = encode(usable, cells.reshape(-1, 2).repeat(len(heat), 1), STRIDE)
    return torch.cat([torch.logit(heat), values.reshape(-1, height, width, BOX).permute(0, 3, 1, 2)], dim=1)


def test_each_centre_is_certain_and_what_is_around_it_less() -> None:
    wanted = targets([THREE], CLASSES, GRID, STRIDE, SPREAD)
    assert (wanted.heat == 1).nonzero().tolist() == [[0, 0, 2, 3], [0, 0, 4, 13], [0, 1, 2, 7]]
    assert wanted.heat[0, 2].max() == 0, "no object is of the third class"
    assert wanted.heat.min() >= 0
    sigma = SPREAD / 6 * 23 / STRIDE
    assert wanted.heat[0, 0, 2, 4].item() == pytest.approx(math.exp(-1 / (2 * sigma**2)), rel=1e-5)
    assert wanted.heat[0, 1, 2, 8] < 1e-9, "the least object has its own cell alone"


def test_a_cell_belongs_to_the_highest_peak_and_then_to_the_smaller_object() -> None:
    same_cell = objects(((0, 0, 48, 32), 0), ((20, 12, 28, 20), 0))
    wanted = targets([same_cell], CLASSES, GRID, STRIDE, SPREAD)
    assert wanted.boxes[0, 4, 6].tolist() == [20, 12, 28, 20]
    assert wanted.boxes[0, 4, 7].tolist() == [0, 0, 48, 32], "where only the large one's peak still is"
    assert (wanted.weights[0, 4, 6], wanted.weights[0, 0, 0]) == (1, 0)


def test_what_is_decoded_from_the_targets_are_the_boxes() -> None:
    several = [THREE, objects(), objects(((0, 0, 64, 32), 2))]
    wanted = targets(several, CLASSES, GRID, STRIDE, SPREAD)
    found = detect(as_map(wanted), [(32, 64)] * 3, STRIDE, Decoding(least_score=0.05))
    for known, seen in zip(several, found, strict=True):
        sure = seen.scores > 0.99
        assert sure.sum() == len(known)
        order = seen.boxes[sure][:, 0].argsort()
        torch.testing.assert_close(seen.boxes[sure][order], known.boxes, rtol=0, atol=1e-3)
        assert torch.equal(seen.classes[sure][order], known.classes)


def test_boxes_are_what_cells_hold() -> None:
    draws = torch.Generator().manual_seed(0)
    held = torch.randn(2, BOX, *GRID, generator=draws, dtype=torch.float64)
    height, width = GRID
    cells = torch.stack(torch.meshgrid(torch.arange(width), torch.arange(height), indexing="xy"), dim=-1).reshape(-1, 2)
    back = encode(decode(held, STRIDE).reshape(-1, 4), cells.repeat(2, 1), STRIDE)
    torch.testing.assert_close(back.reshape(2, height, width, BOX).permute(0, 3, 1, 2), held)


def test_detections_end_at_the_edges_of_their_image() -> None:
    wanted = targets([objects(((40, 4, 64, 32), 0))], CLASSES, GRID, STRIDE, SPREAD)
    (found,) = detect(as_map(wanted), [(30, 50)], STRIDE, Decoding(least_score=0.9))
    assert found.boxes.tolist() == [[pytest.approx(40, abs=1e-3), pytest.approx(4, abs=1e-3), 50, 30]]


def test_no_more_are_kept_than_the_limit() -> None:
    wanted = targets([THREE], CLASSES, GRID, STRIDE, SPREAD)
    (found,) = detect(as_map(wanted), [(32, 64)], STRIDE, Decoding(limit=2))
    assert len(found) == 2


def test_the_loss_is_least_where_the_map_holds_the_targets() -> None:
    wanted = targets([THREE], CLASSES, GRID, STRIDE, SPREAD)
    best, config = as_map(wanted), DetectionLoss()
    least = detection_loss(best, [THREE], STRIDE, config)
    moved, unsure, wrong = best.clone(), best.clone(), best.clone()
    moved[:, CLASSES] += 0.5
    unsure[:, :CLASSES] /= 2
    wrong[:, :CLASSES] = best[:, :CLASSES].roll(1, dims=1)
    for other in (moved, unsure, wrong):
        assert detection_loss(other, [THREE], STRIDE, config) > least + 0.01


def test_an_image_without_objects_has_a_loss_with_a_gradient() -> None:
    maps = torch.zeros(1, CLASSES + BOX, *GRID, requires_grad=True)
    detection_loss(maps, [objects()], STRIDE, DetectionLoss()).backward()
    assert maps.grad is not None
    assert maps.grad.isfinite().all()
    assert (maps.grad[:, :CLASSES] > 0).all(), "scores fall"
    assert (maps.grad[:, CLASSES:] == 0).all(), "boxes are free"


def test_the_focal_loss_is_its_formula() -> None:
    probability = torch.tensor([0.3, 0.6, 0.9], dtype=torch.float64)
    heat = torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)
    expected = -(0.7**2 * math.log(0.3) + 0.5**4 * 0.6**2 * math.log(0.4) + 0.9**2 * math.log(0.1))
    assert focal_loss(torch.logit(probability), heat).item() == pytest.approx(expected)


def test_logits_of_any_size_have_a_finite_loss() -> None:
    maps = torch.full((1, CLASSES + BOX, *GRID), 1e4)
    maps[:, :, ::2] *= -1
    assert detection_loss(maps, [THREE], STRIDE, DetectionLoss()).isfinite()


def test_unknown_classes_are_refused() -> None:
    with pytest.raises(ValueError, match="expected classes from 0 to 2, got 3"):
        targets([objects(((0, 0, 8, 8), 3))], CLASSES, GRID, STRIDE, SPREAD)
