"""Batches of each task: what they hold, the same for any number of workers, of whole images in order too."""

from collections.abc import Callable
from itertools import islice

import numpy as np
import pytest
import torch

from deq_core.experiment.data.batches import grouped, in_order
from deq_vision.data.batches import (
    AnnotatedBatch,
    LabelledBatch,
    SegmentedBatch,
    annotated_batches,
    labelled_batches,
    segmented_batches,
)
from deq_vision.data.samples import AnnotatedImage, LabelledImage, Objects, SegmentedImage
from deq_vision.data.scenes import SceneAugment
from deq_vision.data.transforms import IMAGENET, CropFlip

SCENE = SceneAugment(long_side=40, crop=(24, 32))


class Made:
    """Nine samples made by a function of an index and an image."""

    def __init__(self, make: Callable) -> None:
        self.make = make

    def __len__(self) -> int:
        return 9

    def __getitem__(self, index: int):
        image = np.random.default_rng(index).integers(0, 256, (3, 24, 40), dtype=np.uint8)
        return self.make(index, torch.from_numpy(image))


def labelled(index: int, image: torch.Tensor) -> LabelledImage:
    return LabelledImage(image, index, str(index))


def segmented(index: int, image: torch.Tensor) -> SegmentedImage:
    return SegmentedImage(image, torch.full((24, 40), index, dtype=torch.uint8), str(index))


def annotated(index: int, image: torch.Tensor) -> AnnotatedImage:
    size = 24 if index % 2 else 20
    objects = Objects.of([((1, 2, 11, 12), index, index, False)])
    return AnnotatedImage(image[:, :size, : size + 10].contiguous(), objects, str(index))


TASKS = {
    "labelled": (labelled_batches, labelled, CropFlip()),
    "segmented": (segmented_batches, segmented, SCENE),
    "annotated": (annotated_batches, annotated, SCENE),
}


def take(task: str, start: int, count: int, *, workers: int = 0, augment: bool = True) -> list:
    batches, make, config = TASKS[task]
    stream = batches(
        Made(make),
        batch_size=3,
        augment=config if augment else None,
        normalisation=IMAGENET,
        seed=0,
        workers=workers,
    )
    return list(islice(stream(start), count))


def tensors(batch: LabelledBatch | SegmentedBatch | AnnotatedBatch) -> list[torch.Tensor]:
    if isinstance(batch, AnnotatedBatch):
        return [batch.images, *(entry.boxes for entry in batch.objects), *(entry.classes for entry in batch.objects)]
    return [batch.images, batch.labels]


@pytest.mark.parametrize("task", TASKS)
def test_batches_depend_on_the_seed_and_the_step_alone(task: str) -> None:
    expected = take(task, 0, 5)
    for found in (take(task, 0, 5, workers=1), [*take(task, 0, 2), *take(task, 2, 3)]):
        for first, second in zip(expected, found, strict=True):
            for left, right in zip(tensors(first), tensors(second), strict=True):
                assert torch.equal(left, right)


def test_labels_stay_with_their_images() -> None:
    for batch in take("labelled", 0, 3, augment=False):
        for image, label in zip(batch.images, batch.labels.tolist(), strict=True):
            assert torch.equal(image, IMAGENET.apply(Made(labelled)[label].image))
    batch = take("segmented", 0, 1, augment=False)[0]
    assert (batch.labels.dtype, batch.labels.shape) == (torch.int64, (3, 24, 40))
    assert torch.equal(batch.images[0], IMAGENET.apply(Made(segmented)[int(batch.labels[0, 0, 0])].image))


def test_images_of_different_size_are_padded_with_the_mean() -> None:
    samples = [Made(annotated)[index] for index in (0, 1)]
    batch = AnnotatedBatch.collate(samples, IMAGENET, multiple=16)
    assert batch.images.shape == (2, 3, 32, 48)
    assert batch.sizes == ((20, 30), (24, 34))
    assert torch.equal(batch.images[0, :, :20, :30], IMAGENET.apply(samples[0].image))
    assert (batch.images[0, :, 20:] == 0).all()
    assert (batch.images[0, :, :, 30:] == 0).all()
    assert [entry.classes.tolist() for entry in batch.objects] == [[0], [1]]


def test_every_sample_comes_once_and_in_order() -> None:
    found = grouped(in_order(Made(labelled)), 4, apart=lambda sample: sample.label < 5)
    assert [[sample.label for sample in group] for group in found] == [[0, 1, 2, 3], [4], [5, 6, 7, 8]]
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        next(grouped(in_order(Made(labelled)), 0))


def test_batches_move_to_a_device_whole() -> None:
    for task in TASKS:
        moved = take(task, 0, 1)[0].to("meta")
        assert {tensor.device.type for tensor in tensors(moved)} == {"meta"}


def test_samples_of_different_size_are_an_error_that_names_them() -> None:
    small = LabelledImage(torch.zeros(3, 4, 4, dtype=torch.uint8), 0, "small")
    with pytest.raises(ValueError, match=r"one size .* got 0 \(24, 40\), small \(4, 4\); crop them"):
        LabelledBatch.collate([Made(labelled)[0], small], IMAGENET)
    with pytest.raises(ValueError, match="got no sample"):
        LabelledBatch.collate([], IMAGENET)
    for kind in (SegmentedBatch, AnnotatedBatch):
        with pytest.raises(ValueError, match="a batch needs samples, got none"):
            kind.collate([], IMAGENET)


def test_samples_that_are_not_what_they_should_be_are_errors() -> None:
    image = torch.zeros(3, 4, 4, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"a: image must be torch.uint8 of shape \(3, 4, 4\), got torch.float32"):
        LabelledImage(image.float(), 0, "a")
    with pytest.raises(ValueError, match=r"a: labels must be torch.uint8 of shape \(4, 4\), got .* of shape \(4, 5\)"):
        SegmentedImage(image, torch.zeros(4, 5, dtype=torch.uint8), "a")
    with pytest.raises(ValueError, match=r"boxes must end right of and below where they begin, got \[2.0, 0.0, 2.0"):
        Objects.of([((2, 0, 2, 1), 0, 0, False)])
    with pytest.raises(ValueError, match="label must not be negative"):
        LabelledImage(image, -1, "a")
