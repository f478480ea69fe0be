"""Batches of augmented pairs with their flow."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from deq_core.experiment.data import batches as experiment
from deq_flow.data.augment import AugmentConfig, augment
from deq_flow.data.samples import FlowSample, SampleSet

Augmentation = AugmentConfig | Callable[[int], AugmentConfig]
"""Augmentation of all samples of a set, or a function that gives that of the sample at an index."""


@dataclass(frozen=True)
class FlowBatch:
    """Samples of one size, stacked."""

    image1: Tensor
    """float32 (b, 3, h, w), RGB, 0 to 255."""
    image2: Tensor
    """float32 (b, 3, h, w), RGB, 0 to 255."""
    flow: Tensor
    """float32 (b, 2, h, w), pixels."""
    valid: Tensor
    """bool (b, h, w)."""

    @staticmethod
    def collate(samples: Sequence[FlowSample]) -> "FlowBatch":
        """The samples as a batch.

        Raises:
            ValueError: there is none, or they differ in size.
        """
        sizes = {tuple(sample.valid.shape): sample.name for sample in samples}
        if len(sizes) != 1:
            listing = ", ".join(f"{name} {size}" for size, name in sizes.items()) or "no sample"
            raise ValueError(f"a batch needs samples of one size (h, w), got {listing}; crop them, or use batch size 1")
        return FlowBatch(
            torch.stack([sample.image1 for sample in samples]).float(),
            torch.stack([sample.image2 for sample in samples]).float(),
            torch.stack([sample.flow for sample in samples]),
            torch.stack([sample.valid for sample in samples]),
        )

    def to(self, device: torch.device | str) -> "FlowBatch":
        """The batch on a device."""
        return FlowBatch(*(tensor.to(device) for tensor in (self.image1, self.image2, self.flow, self.valid)))


def batches(
    dataset: SampleSet, *, batch_size: int, augment: Augmentation | None, seed: int, workers: int = 0
) -> Callable[[int], Iterator[FlowBatch]]:
    """A function that, for `start`, yields the batches of steps start, start + 1, ... without end.

    Each epoch is a new permutation of the samples, without the last incomplete batch. The batch of a step, and the
    augmentation of its samples, depend only on the seed and the step.

    Args:
        dataset: map-style data set; without augmentation its samples must have one size.
        batch_size: number of samples in a batch.
        augment: augmentation of all samples, or by index, as in `mixes.Mix`; None is without.
        seed: seed of the order and of the augmentation.
        workers: number of processes that read and augment; with 0 the calling process does.

    Raises:
        ValueError: the data set is smaller than a batch.
    """
    change = None if augment is None else Augmented(augment)
    return experiment.batches(
        dataset, batch_size=batch_size, collate=FlowBatch.collate, change=change, seed=seed, workers=workers
    )


@dataclass(frozen=True)
class Augmented:
    """Augments a sample according to its index in the data set."""

    augmentation: Augmentation

    def __call__(self, sample: FlowSample, index: int, rng: np.random.Generator) -> FlowSample:
        config = self.augmentation(index) if callable(self.augmentation) else self.augmentation
        return augment(sample, config, rng)


def same_shape(pairs: SampleSet, batch_size: int) -> Iterator[list[FlowSample]]:
    """All samples in order, in groups of at most `batch_size` images of one shape."""
    return experiment.grouped(experiment.in_order(pairs), batch_size, apart=lambda sample: sample.image1.shape)
