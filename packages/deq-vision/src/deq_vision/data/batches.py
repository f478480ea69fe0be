"""Normalised batches for each task, determined by the seed and the step alone."""

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
    """Names of the samples."""

    @staticmethod
    def collate(samples: Sequence[LabelledImage], normalisation: Normalisation) -> "LabelledBatch":
        """Collates samples.

        Raises:
            ValueError: there are no samples, or they differ in size.
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
    """int64 (b, h, w); `samples.IGNORE_INDEX` where a pixel has no class or is padding."""
    names: tuple[str, ...]
    """Names of the samples."""
    sizes: tuple[tuple[int, int], ...]
    """(h, w) of each image without padding."""
    whole: tuple[Tensor, ...]
    """Labels at original size to evaluate against, uint8 (H, W) for each sample; empty if no image was resized."""

    @staticmethod
    def collate(samples: Sequence[SegmentedImage], normalisation: Normalisation, multiple: int = 1) -> "SegmentedBatch":
        """Collates samples, padded to a height and width that are multiples of `multiple`.

        Raises:
            ValueError: there are no samples.
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
    """Objects of each image, in its pixels."""
    sizes: tuple[tuple[int, int], ...]
    """(h, w) of each image without padding."""
    names: tuple[str, ...]
    """Names of the samples."""
    whole: tuple[Annotated, ...]
    """Annotations to evaluate each sample against."""

    @staticmethod
    def collate(samples: Sequence[AnnotatedImage], normalisation: Normalisation, multiple: int = 1) -> "AnnotatedBatch":
        """Collates samples, padded to a height and width that are multiples of `multiple`.

        Raises:
            ValueError: there are no samples.
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
    """Classification batches from any step on; see `deq_core.experiment.data.batches.batches`."""
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
    """Segmentation batches from any step on; see `deq_core.experiment.data.batches.batches`."""
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
    """Detection batches from any step on; see `deq_core.experiment.data.batches.batches`.

    Height and width of a batch are multiples of `multiple`.
    """
    collate = partial(AnnotatedBatch.collate, normalisation=normalisation, multiple=multiple)
    change = None if augment is None else AugmentAnnotated(augment)
    return experiment.batches(
        dataset, batch_size=batch_size, collate=collate, change=change, seed=seed, workers=workers
    )


def size_of(sample: SegmentedImage | AnnotatedImage) -> tuple[int, ...]:
    """Shape (3, h, w) of the image; batches of one size pad an image independently of other images."""
    return tuple(sample.image.shape)


def padded(
    samples: Sequence[SegmentedImage] | Sequence[AnnotatedImage], normalisation: Normalisation, multiple: int
) -> Tensor:
    """Normalised images, float32 (b, 3, h, w), padded with 0 to a common h and w that are multiples of `multiple`.

    Raises:
        ValueError: there are no samples.
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
    """Images of the samples, uint8 (b, 3, h, w).

    Raises:
        ValueError: there are no samples, or they differ in size.
    """
    sizes = {tuple(sample.image.shape[1:]): sample.name for sample in samples}
    if len(sizes) != 1:
        listing = ", ".join(f"{name} {size}" for size, name in sizes.items()) or "no sample"
        raise ValueError(f"a batch needs samples of one size (h, w), got {listing}; crop them, or use batch size 1")
    return torch.stack([sample.image for sample in samples])


def names_of(samples: Sequence[LabelledImage] | Sequence[SegmentedImage] | Sequence[AnnotatedImage]) -> tuple[str, ...]:
    """The samples' names."""
    return tuple(sample.name for sample in samples)
