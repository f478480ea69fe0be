"""Batches of a data set as a function of the step: the same after an interruption and for any number of workers."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import cv2
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from deq_core.experiment.seeding import item_rng
from deq_flow.data.augment import AugmentConfig, augment
from deq_flow.data.samples import FlowSample


class SampleSet(Protocol):
    """What the data sets of this package are: samples by index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> FlowSample: ...


Augmentation = AugmentConfig | Callable[[int], AugmentConfig]
"""How every sample of a set is changed, or how the sample at an index is."""


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


class Cached(Dataset[FlowSample]):
    """A small data set read once and kept in memory."""

    def __init__(self, samples: SampleSet) -> None:
        self.samples = [samples[index] for index in range(len(samples))]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> FlowSample:
        return self.samples[index]


def batches(
    dataset: SampleSet, *, batch_size: int, augment: Augmentation | None, seed: int, workers: int = 0
) -> Callable[[int], Iterator[FlowBatch]]:
    """A function whose value at `start` yields the batches of steps start, start + 1, ... without end.

    Each epoch is a new permutation of the samples, without the last incomplete batch. The batch of a step, and what
    augmentation draws for each of its samples, depend on the seed and the step alone.

    Args:
        dataset: map-style; its samples are of one size if `augment` is None.
        batch_size: samples a batch.
        augment: how samples are changed, all alike or by index, as in `mixes.Mix`; None leaves them as they are.
        seed: of the order and of the augmentation.
        workers: processes that read and augment; 0 does both in this one.

    Raises:
        ValueError: the data set is smaller than a batch.
    """
    if not 1 <= batch_size <= len(dataset):
        raise ValueError(f"batch_size must be from 1 to the {len(dataset)} samples of the data set, got {batch_size}")
    items = AugmentedItems(dataset, augment, seed)

    def stream(start: int) -> Iterator[FlowBatch]:
        loader = DataLoader(
            items,
            batch_sampler=StepSampler(len(dataset), batch_size, seed, start),
            collate_fn=FlowBatch.collate,
            num_workers=workers,
            worker_init_fn=use_one_thread,
            generator=torch.Generator(),  # its own, so that starting to iterate draws from no global generator
        )
        with opencv_without_threads():
            return iter(loader)

    return stream


def same_shape(pairs: SampleSet, batch_size: int) -> Iterator[list[FlowSample]]:
    """All samples in order, in runs of at most `batch_size` whose images have one shape."""
    group: list[FlowSample] = []
    for index in range(len(pairs)):
        sample = pairs[index]
        if group and (len(group) == batch_size or sample.image1.shape != group[0].image1.shape):
            yield group
            group = []
        group.append(sample)
    if group:
        yield group


class AugmentedItems(Dataset[FlowSample]):
    """Samples by (epoch, index), augmented by the random numbers of that place."""

    def __init__(self, dataset: SampleSet, augmentation: Augmentation | None, seed: int) -> None:
        self.dataset = dataset
        self.augmentation = augmentation
        self.seed = seed

    def __getitem__(self, place: tuple[int, int]) -> FlowSample:
        epoch, index = place
        sample = self.dataset[index]
        if self.augmentation is None:
            return sample
        config = self.augmentation(index) if callable(self.augmentation) else self.augmentation
        return augment(sample, config, item_rng(self.seed, epoch, index))


class StepSampler(Sampler[list[tuple[int, int]]]):
    """The places (epoch, index) of each batch from step `start` on, without end."""

    def __init__(self, samples: int, batch_size: int, seed: int, start: int) -> None:
        self.samples = samples
        self.batch_size = batch_size
        self.seed = seed
        self.start = start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        per_epoch = self.samples // self.batch_size
        epoch, position = divmod(self.start, per_epoch)
        while True:
            # The order is drawn as one item more, whose random numbers no sample uses.
            order = item_rng(self.seed, epoch, self.samples).permutation(self.samples).tolist()
            for batch in range(position, per_epoch):
                yield [(epoch, index) for index in order[batch * self.batch_size : (batch + 1) * self.batch_size]]
            epoch, position = epoch + 1, 0


@contextmanager
def opencv_without_threads() -> Iterator[None]:
    """Stops OpenCV's threads while workers are forked: with a copy of a pool without its threads they would hang."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def use_one_thread(_: int) -> None:
    """Keeps OpenCV from starting threads in a worker, which has siblings enough."""
    cv2.setNumThreads(1)
