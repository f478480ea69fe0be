"""A detector on an MDEQ: its map, its file, and one image learnt by heart."""

import pytest
import torch

import deq_core as deq
from deq_vision import MDEQ, Detection, build
from deq_vision.data.samples import Objects
from deq_vision.detection.decoding import Decoding, detect
from deq_vision.detection.metrics import coco_metrics
from deq_vision.detection.targets import DetectionLoss, detection_loss
from deq_vision.detection.task import as_found, as_truth

HEAD = Detection(channels=16, classes=3)


def detector(steps: int = 3) -> MDEQ:
    """A small one, of 4 pixels a cell."""
    return build(
        "mini-video",
        head=HEAD,
        channels=(8, 16),
        expansion=2,
        solver=deq.FixedPointIteration(),
        stop=deq.Stop(steps, None),
        adjoint=deq.Phantom(steps=1),
    )


def test_the_map_is_on_the_finest_branchs_grid() -> None:
    output = detector().eval()(torch.randn(2, 3, 32, 64))
    assert output.logits.shape == (2, 3 + 4, 8, 16)
    assert output.logits[:, :3].sigmoid().mean() < 0.3, "at first nearly nothing is an object"


def test_an_untrained_detector_gives_boxes_within_the_image() -> None:
    maps = 50 * torch.randn(2, 3 + 4, 8, 16)
    for found in detect(maps, [(32, 64), (30, 50)], 4, Decoding()):
        assert len(found) <= 100
        assert found.boxes.isfinite().all()
        assert (found.boxes >= 0).all()
        assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
        assert (found.scores.diff() <= 0).all()


def test_one_image_is_learnt_by_heart() -> None:
    """Boxes of two classes, one of them twice, are all found, and nothing else, with three quarters of their area."""
    image = torch.zeros(1, 3, 32, 64)
    known = Objects.of([((4, 4, 20, 24), 0, 0, False), ((30, 10, 40, 30), 1, 1, False), ((46, 2, 62, 12), 0, 2, False)])
    for (left, top, right, bottom), kind in zip(known.boxes.int().tolist(), known.classes.tolist(), strict=True):
        image[0, kind, top:bottom, left:right] = 2
    model = detector(steps=2).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = detection_loss(model(image).logits, [known], 4, DetectionLoss())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    (found,) = detect(model(image).logits.detach(), [(32, 64)], 4, Decoding(least_score=0.3))
    assert len(found) == 3
    assert coco_metrics([as_found(found)], [as_truth(known)], 3)["ap75"] == pytest.approx(1)
