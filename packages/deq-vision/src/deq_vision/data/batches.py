"""Batches of images for each task, normalised; which they are depends on the seed and the step alone."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from deq_core.experiment.data import batches as experiment
from deq_core.experiment.data.batches import SampleSet
from deq_vision.data.samples import IGNORE_INDEX, Annotated, AnnotatedImage, LabelledImage, Objects, SegmentedImage
from deq_vision.data.scenes import AugmentAnnotated, AugmentSegmented, SceneAugment
from deq_vision.data.transforms import Augment, CropFlip, Normalisation, ResizedCrop


@dataclass(frozen=True)
class LabelledBatch:
    """Images with their classes."""

    images: Tensor
    """float32 (b, 3, h, w), normalised."""
    labels: Tensor
    """int64 (b,)."""
    names: tuple[str, ...]
    """Of the samples."""

    @staticmethod
    def collate(samples: Sequence[LabelledImage], normalisation: Normalisation) -> "LabelledBatch":
        """The samples as a batch.

        Raises:
            ValueError: there is none, or they differ in size.
        """
        labels = torch.tensor([sample.label for sample in samples], dtype=torch.int64)
        return LabelledBatch(normalisation.apply(stacked(samples)), labels, names_of(samples))

    def to(self, device: torch.device | str) -> "LabelledBatch":
        """The batch on a device."""
        return replace(self, images=self.images.to(device), labels=self.labels.to(device))


@dataclass(frozen=True)
class SegmentedBatch:
    """Images with the classes of their pixels."""

    images: Tensor
    """float32 (b, 3, h, w), normalised; smaller ones are padded with 0, the mean colour, below and to the right."""
    labels: Tensor
    """int64 (b, h, w); `samples.IGNORE_INDEX` where a pixel is of no class or padded."""
    names: tuple[str, ...]
    """Of the samples."""
    sizes: tuple[tuple[int, int], ...]
    """(h, w) of each image without padding."""
    whole: tuple[Tensor, ...]
    """uint8 (H, W) of each sample: what it is measured by, where its image is a reduced one; none where no image is."""

    @staticmethod
    def collate(samples: Sequence[SegmentedImage], normalisation: Normalisation, multiple: int = 1) -> "SegmentedBatch":
        """The samples as a batch whose height and width are multiples of a number.

        Raises:
            ValueError: there is none.
        """
        images = padded(samples, normalisation, multiple)
        labels = torch.full((len(samples), *images.shape[2:]), IGNORE_INDEX)
        for place, sample in enumerate(samples):
            height, width = sample.labels.shape
            labels[place, :height, :width] = sample.labels
        sizes = tuple((sample.labels.shape[0], sample.labels.shape[1]) for sample in samples)
        reduced = any(sample.whole is not None for sample in samples)
        whole = (sample.labels if sample.whole is None else sample.whole for sample in samples if reduced)
        return SegmentedBatch(images, labels, names_of(samples), sizes, tuple(whole))

    def to(self, device: torch.device | str) -> "SegmentedBatch":
        """The batch on a device."""
        whole = tuple(labels.to(device) for labels in self.whole)
        return replace(self, images=self.images.to(device), labels=self.labels.to(device), whole=whole)


@dataclass(frozen=True)
class AnnotatedBatch:
    """Images with their objects."""

    images: Tensor
    """float32 (b, 3, h, w), normalised; smaller ones are padded with 0, the mean colour, below and to the right."""
    objects: tuple[Objects, ...]
    """Of each image, in its pixels."""
    sizes: tuple[tuple[int, int], ...]
    """(h, w) of each image without padding."""
    names: tuple[str, ...]
    """Of the samples."""
    whole: tuple[Annotated, ...]
    """Of each sample, what a detector is measured by."""

    @staticmethod
    def collate(samples: Sequence[AnnotatedImage], normalisation: Normalisation, multiple: int = 1) -> "AnnotatedBatch":
        """The samples as a batch whose height and width are multiples of a number.

        Raises:
            ValueError: there is none.
        """
        images = padded(samples, normalisation, multiple)
        sizes = tuple((sample.image.shape[1], sample.image.shape[2]) for sample in samples)
        objects = tuple(sample.objects for sample in samples)
        return AnnotatedBatch(images, objects, sizes, names_of(samples), tuple(one.measured() for one in samples))

    def to(self, device: torch.device | str) -> "AnnotatedBatch":
        """The batch on a device."""
        return replace(self, images=self.images.to(device), objects=tuple(entry.to(device) for entry in self.objects))


def labelled_batches(
    dataset: SampleSet[LabelledImage],
    *,
    batch_size: int,
    augment: CropFlip | ResizedCrop | None,
    normalisation: Normalisation,
    seed: int,
    workers: int = 0,
) -> Callable[[int], Iterator[LabelledBatch]]:
    """Batches of classification from any step on; see `deq_core.experiment.data.batches.batches`."""
    collate = partial(LabelledBatch.collate, normalisation=normalisation)
    change = None if augment is None else Augment(augment)
    return experiment.batches(
        dataset, batch_size=batch_size, collate=collate, change=change, seed=seed, workers=workers
    )


def segmented_batches(
    dataset: SampleSet[SegmentedImage],
    *,
    batch_size: int,
    augment: SceneAugment | None,
    normalisation: Normalisation,
    seed: int,
    workers: int = 0,
) -> Callable[[int], Iterator[SegmentedBatch]]:
    """Batches of segmentation from any step on; see `deq_core.experiment.data.batches.batches`."""
    collate = partial(SegmentedBatch.collate, normalisation=normalisation)
    change = None if augment is None else AugmentSegmented(augment)
    return experiment.batches(
        dataset, batch_size=batch_size, collate=collate, change=change, seed=seed, workers=workers
    )


def annotated_batches(
    dataset: SampleSet[AnnotatedImage],
    *,
    batch_size: int,
    augment: SceneAugment | None,
    normalisation: Normalisation,
    seed: int,
    multiple: int = 1,
    workers: int = 0,
) -> Callable[[int], Iterator[AnnotatedBatch]]:
    """Batches of detection from any step on; see `deq_core.experiment.data.batches.batches`.

    `multiple` is what the height and width of a batch are multiples of.
    """
    collate = partial(AnnotatedBatch.collate, normalisation=normalisation, multiple=multiple)
    change = None if augment is None else AugmentAnnotated(augment)
    return experiment.batches(
        dataset, batch_size=batch_size, collate=collate, change=change, seed=seed, workers=workers
    )


def size_of(sample: SegmentedImage | AnnotatedImage) -> tuple[int, ...]:
    """(3, h, w) of its image: alone, a picture is padded to what its own size needs, whatever others are."""
    return tuple(sample.image.shape)


def padded(
    samples: Sequence[SegmentedImage] | Sequence[AnnotatedImage], normalisation: Normalisation, multiple: int
) -> Tensor:
    """float32 (b, 3, h, w), normalised, with 0 where an image is smaller; h and w are multiples of `multiple`.

    Raises:
        ValueError: there is no sample.
    """
    if not samples:
        raise ValueError("a batch needs samples, got none")
    sizes = [sample.image.shape[1:] for sample in samples]
    height, width = (-(-max(lengths) // multiple) * multiple for lengths in zip(*sizes, strict=True))
    images = torch.zeros(len(samples), 3, height, width)
    for place, sample in enumerate(samples):
        images[place, :, : sizes[place][0], : sizes[place][1]] = normalisation.apply(sample.image)
    return images


def stacked(samples: Sequence[LabelledImage]) -> Tensor:
    """uint8 (b, 3, h, w).

    Raises:
        ValueError: there is no sample, or they differ in size.
    """
    sizes = {tuple(sample.image.shape[1:]): sample.name for sample in samples}
    if len(sizes) != 1:
        listing = ", ".join(f"{name} {size}" for size, name in sizes.items()) or "no sample"
        raise ValueError(f"a batch needs samples of one size (h, w), got {listing}; crop them, or use batch size 1")
    return torch.stack([sample.image for sample in samples])


def names_of(samples: Sequence[LabelledImage] | Sequence[SegmentedImage] | Sequence[AnnotatedImage]) -> tuple[str, ...]:
    """The samples' names."""
    return tuple(sample.name for sample in samples)
