"""Batches as a function of the step: the same after an interruption and for any number of workers."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, islice
from typing import Generic, Protocol, TypeVar

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from deq_core.experiment.config import ConfigError
from deq_core.experiment.data.images import one_thread
from deq_core.experiment.seeding import item_rng

Sample = TypeVar("Sample")
Read = TypeVar("Read", covariant=True)
Batch = TypeVar("Batch")

Change = Callable[[Sample, int, np.random.Generator], Sample]
"""Augmentation of a sample, given its index in the data set and a generator for this epoch and index."""


class SampleSet(Protocol[Read]):
    """A data set: samples by index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Read: ...


def in_order(samples: SampleSet[Sample]) -> Iterator[Sample]:
    """Every sample once, in order, read lazily."""
    return (samples[index] for index in range(len(samples)))


def grouped(
    samples: Iterable[Sample], size: int, *, apart: Callable[[Sample], object] = lambda _: None
) -> Iterator[list[Sample]]:
    """Groups of `size` consecutive samples; smaller at the end and where the key `apart` changes.

    A full group is yielded before the next sample, which may be damaged, is read.

    Raises:
        ConfigError: `size` is less than 1.
    """
    if size < 1:
        raise ConfigError(f"batch_size must be at least 1, got {size}")
    for _, alike in groupby(samples, key=apart):
        while group := list(islice(alike, size)):
            yield group


class Spaced(Dataset[Sample]):
    """`count` evenly spaced samples of a set, or all if it has no more."""

    def __init__(self, samples: SampleSet[Sample], count: int) -> None:
        self.samples = samples
        whole = len(samples)
        self.places = [number * whole // count for number in range(count)] if count < whole else range(whole)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Sample:
        return self.samples[self.places[index]]


def batches(
    dataset: SampleSet[Sample],
    *,
    batch_size: int,
    collate: Callable[[Sequence[Sample]], Batch],
    change: Change[Sample] | None,
    seed: int,
    workers: int = 0,
) -> Callable[[int], Iterator[Batch]]:
    """A function of `start` that yields the batches of steps start, start + 1, ... without end.

    Each epoch is a new permutation of the samples, without the last incomplete batch. The batch of a step and the
    random numbers for `change` depend only on the seed and the step.

    Args:
        dataset: map-style data set.
        batch_size: number of samples per batch.
        collate: joins samples into a batch.
        change: augmentation; None for none. With workers it must be picklable.
        seed: seed of the order and of the augmentation.
        workers: number of processes that read and augment; 0 uses this process.

    Raises:
        ConfigError: the data set is smaller than a batch.
    """
    if not 1 <= batch_size <= len(dataset):
        raise ConfigError(f"batch_size must be from 1 to the {len(dataset)} samples of the data set, got {batch_size}")
    items = ChangedItems(dataset, change, seed)

    def stream(start: int) -> Iterator[Batch]:
        loader = DataLoader(
            items,
            batch_sampler=StepSampler(len(dataset), batch_size, seed, start),
            collate_fn=collate,
            num_workers=workers,
            worker_init_fn=use_one_thread,
            generator=torch.Generator(),  # otherwise each iteration would draw from the global generator
        )
        with one_thread():  # while workers are forked
            return iter(loader)

    return stream


class ChangedItems(Dataset[Sample], Generic[Sample]):
    """Samples by (epoch, index), augmented with the random numbers of that epoch and index."""

    def __init__(self, dataset: SampleSet[Sample], change: Change[Sample] | None, seed: int) -> None:
        self.dataset = dataset
        self.change = change
        self.seed = seed

    def __getitem__(self, place: tuple[int, int]) -> Sample:
        epoch, index = place
        sample = self.dataset[index]
        return sample if self.change is None else self.change(sample, index, item_rng(self.seed, epoch, index))


class StepSampler(Sampler[list[tuple[int, int]]]):
    """Lists of (epoch, index), one for each batch from step `start` on, without end."""

    def __init__(self, samples: int, batch_size: int, seed: int, start: int) -> None:
        self.samples = samples
        self.batch_size = batch_size
        self.seed = seed
        self.start = start

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        per_epoch = self.samples // self.batch_size
        epoch, position = divmod(self.start, per_epoch)
        while True:
            # The index one past the last gives a generator that no sample uses.
            order = item_rng(self.seed, epoch, self.samples).permutation(self.samples).tolist()
            for batch in range(position, per_epoch):
                yield [(epoch, index) for index in order[batch * self.batch_size : (batch + 1) * self.batch_size]]
            epoch, position = epoch + 1, 0


def use_one_thread(_: int) -> None:
    """Keeps OpenCV in a worker to one thread, since the workers already run in parallel."""
    cv2.setNumThreads(1)
