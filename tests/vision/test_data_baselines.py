"""Baselines: each knows what it may know, and no more."""

import numpy as np
import pytest
import torch

from deq_vision.baselines.classifiers import (
    linear_classifier,
    majority_class,
    nearest_neighbours,
    pixel_classifier,
    position_prior,
    prior_boxes,
)
from deq_vision.data.samples import IGNORE_INDEX, AnnotatedImage, LabelledImage, Objects, SegmentedImage

RNG = np.random.default_rng(0)


def picture(height: int = 8, width: int = 12) -> torch.Tensor:
    return torch.from_numpy(RNG.integers(0, 256, (3, height, width), dtype=np.uint8))


def brightened(count: int) -> list[LabelledImage]:
    """Images of noise whose first pixel says the class."""
    samples = []
    for index in range(count):
        image, label = picture(3, 4), index % 3
        image[:, 0, 0] = 120 * label
        samples.append(LabelledImage(image, label, str(index)))
    return samples


def test_a_linear_classifier_finds_the_pixel_that_tells() -> None:
    train, test = brightened(600), brightened(150)
    found = linear_classifier(train, strength=0.1)(torch.stack([sample.image for sample in test]))
    assert (found == torch.tensor([sample.label for sample in test])).float().mean() > 0.8


def test_neighbours_are_those_with_the_least_difference() -> None:
    train = [LabelledImage(torch.full((3, 2, 2), value, dtype=torch.uint8), value // 100, "") for value in range(256)]
    images = torch.full((2, 3, 2, 2), 40, dtype=torch.uint8)
    images[1] = 230
    assert nearest_neighbours(train, neighbours=3)(images).tolist() == [0, 2]


def segmented(labels: torch.Tensor, image: torch.Tensor | None = None) -> SegmentedImage:
    return SegmentedImage(picture(*labels.shape) if image is None else image, labels.to(torch.uint8), "")


def test_the_majority_does_not_count_pixels_of_no_class() -> None:
    labels = torch.full((4, 6), IGNORE_INDEX)
    labels[0] = 2
    labels[1, :2] = 1
    found = majority_class([segmented(labels), segmented(labels)], 3)(torch.zeros(2, 3, 5, 7, dtype=torch.uint8))
    assert found.shape == (2, 5, 7)
    assert (found == 2).all()


def test_the_position_prior_is_the_most_frequent_class_of_each_place() -> None:
    generator = torch.Generator().manual_seed(0)
    stack = torch.randint(4, (9, 5, 7), generator=generator)
    stack[0, :2] = IGNORE_INDEX
    found = position_prior([segmented(labels) for labels in stack], 4)(torch.zeros(3, 3, 5, 7, dtype=torch.uint8))
    for row in range(5):
        for column in range(7):
            counts = torch.bincount(stack[:, row, column][stack[:, row, column] != IGNORE_INDEX], minlength=4)
            assert (found[:, row, column] == counts.argmax()).all()


def test_the_pixel_classifier_knows_colour_and_place_and_no_neighbour() -> None:
    def sample() -> SegmentedImage:
        """Red or green above, blue or not below: four classes; some pixels are of none."""
        image, labels = torch.zeros(3, 12, 16, dtype=torch.uint8), torch.zeros(12, 16, dtype=torch.uint8)
        which = torch.from_numpy(RNG.integers(0, 2, (12, 16)).astype(np.uint8))
        image[0, :6], image[1, :6] = 250 * which[:6], 250 * (1 - which[:6])
        image[2, 6:] = 250 * which[6:]
        labels[:6], labels[6:] = which[:6], 2 + which[6:]
        labels[0] = IGNORE_INDEX
        return segmented(labels, image)

    model = pixel_classifier([sample() for _ in range(10)], pixels=1500)
    tests = [sample() for _ in range(4)]
    found = model(torch.stack([test.image for test in tests]))
    truth = torch.stack([test.labels for test in tests])
    assert (found == truth)[truth != IGNORE_INDEX].float().mean() > 0.98
    alone = tests[0].image.clone()
    alone[:, :, 1:] = 0
    assert torch.equal(model(alone[None])[0, :, 0], found[0, :, 0])  # whatever is beside a pixel


def annotated(*rows: tuple[tuple[float, float, float, float], int]) -> AnnotatedImage:
    return AnnotatedImage(picture(), Objects.of([(box, kind, 0, False) for box, kind in rows]), "")


def test_the_prior_box_is_the_mean_of_its_class_with_the_share_of_images_it_is_right_in() -> None:
    samples = [
        annotated(((0, 0, 10, 10), 0), ((50, 50, 60, 60), 2)),
        annotated(((2, 0, 12, 10), 0)),
        annotated(((1, 0, 11, 10), 0), ((20, 0, 24, 2), 2)),
        annotated(),
    ]
    found = prior_boxes(samples, 3)
    assert found.classes.tolist() == [0, 2]
    assert found.boxes[0].tolist() == pytest.approx([1, 0, 11, 10])
    assert found.boxes[1].tolist() == pytest.approx([35, 25, 42, 31])
    assert found.scores.tolist() == pytest.approx([0.75, 0.0])  # between two boxes there is none


def test_several_boxes_a_class_are_the_means_of_its_clusters() -> None:
    samples = [annotated(((0, 0, 10, 10), 0)), annotated(((50, 50, 60, 62), 0)), annotated(((50, 50, 60, 60), 0))]
    found = prior_boxes(samples, 1, per_class=2)
    boxes = sorted(zip(found.boxes.tolist(), found.scores.tolist(), strict=True))
    assert boxes[0][0] == pytest.approx([0, 0, 10, 10])
    assert boxes[1][0] == pytest.approx([50, 50, 60, 61])
    assert [score for _, score in boxes] == pytest.approx([1 / 3, 2 / 3])
    assert len(prior_boxes([annotated()], 3).boxes) == 0
