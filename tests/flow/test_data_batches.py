"""Batches: a function of the seed and the step, whatever the number of workers and wherever the start."""

import random
import subprocess
import sys
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pytest
import torch

from deq_core.experiment.config import ConfigError
from deq_core.experiment.data import batches as batches_module
from deq_core.experiment.data.batches import in_order
from deq_core.experiment.data.images import FileFormatError
from deq_flow.data.augment import AugmentConfig
from deq_flow.data.batches import FlowBatch, batches
from deq_flow.data.samples import FlowSample

CONFIG = AugmentConfig(crop=(16, 20), eraser_size=(3, 8))


class Numbered:
    """Samples whose flow is their index; counts how often each is read."""

    def __init__(self, count: int = 10, size: tuple[int, int] = (24, 32)) -> None:
        self.reads = [0] * count
        self.size = size

    def __len__(self) -> int:
        return len(self.reads)

    def __getitem__(self, index: int) -> FlowSample:
        self.reads[index] += 1
        rng = np.random.default_rng(index)
        first, second = (torch.from_numpy(rng.integers(0, 256, (3, *self.size), dtype=np.uint8)) for _ in range(2))
        flow = torch.full((2, *self.size), float(index))
        return FlowSample(first, second, flow, torch.ones(self.size, dtype=torch.bool), f"sample {index}")


class Broken(Numbered):
    """Its samples cannot be read."""

    def __getitem__(self, index: int) -> FlowSample:
        raise FileFormatError(f"{index}.flo: expected a flow, got rubbish")


def take(
    count: int, start: int = 0, *, seed: int = 0, workers: int = 0, augment: AugmentConfig | None = CONFIG
) -> list[FlowBatch]:
    stream = batches(Numbered(), batch_size=3, augment=augment, seed=seed, workers=workers)
    return list(islice(stream(start), count))


def same(first: FlowBatch, second: FlowBatch) -> bool:
    return all(
        torch.equal(getattr(first, name), getattr(second, name)) for name in ("image1", "image2", "flow", "valid")
    )


def indices(batch: FlowBatch) -> list[int]:
    return batch.flow[:, 0, 0, 0].int().tolist()


@pytest.mark.parametrize("workers", [1, 2])
def test_any_number_of_workers_gives_the_same_batches(workers: int) -> None:
    assert all(same(a, b) for a, b in zip(take(7), take(7, workers=workers), strict=True))


@pytest.mark.parametrize("start", [1, 2, 3, 5, 8])
def test_starting_in_the_middle_continues_the_same_batches(start: int) -> None:
    """An epoch is three batches: a start may lie within one, at the end of one, or epochs away."""
    assert all(same(a, b) for a, b in zip(take(10)[start:], take(10 - start, start), strict=True))


def test_a_stream_can_be_started_again() -> None:
    stream = batches(Numbered(), batch_size=3, augment=CONFIG, seed=0)
    assert same(next(stream(4)), next(stream(4)))


def test_an_epoch_has_each_sample_at_most_once_and_epochs_differ() -> None:
    steps = [indices(batch) for batch in take(30, augment=None)]
    epochs = [[*chain.from_iterable(steps[start : start + 3])] for start in range(0, 30, 3)]
    assert all(len(set(epoch)) == 9 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 10
    assert {index for epoch in epochs for index in epoch} == set(range(10))  # the one left out changes


def test_another_seed_gives_another_order_and_other_augmentation() -> None:
    assert [indices(batch) for batch in take(3, augment=None)] != [
        indices(batch) for batch in take(3, augment=None, seed=1)
    ]
    assert not same(take(1)[0], take(1, seed=1)[0])


def test_a_sample_is_augmented_anew_in_each_epoch() -> None:
    one = batches(Numbered(1), batch_size=1, augment=CONFIG, seed=0)
    first, second = islice(one(0), 2)
    assert not torch.equal(first.image1, second.image1)


def test_batches_are_float_images_and_boolean_validity() -> None:
    batch = take(1)[0]
    assert (batch.image1.dtype, batch.image1.shape) == (torch.float32, (3, 3, 16, 20))
    assert (batch.flow.dtype, batch.flow.shape) == (torch.float32, (3, 2, 16, 20))
    assert (batch.valid.dtype, batch.valid.shape) == (torch.bool, (3, 16, 20))
    assert batch.image2.max() > 1


def test_the_order_and_the_augmentation_draw_from_different_generators(monkeypatch: pytest.MonkeyPatch) -> None:
    places = []

    def item_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
        places.append((seed, epoch, index))
        return np.random.default_rng([seed, epoch, index])

    monkeypatch.setattr(batches_module, "item_rng", item_rng)
    take(6)
    assert len(set(places)) == len(places) == 2 * (1 + 9)  # two epochs of an order and three batches


def test_serving_batches_draws_from_no_global_generator() -> None:
    before = torch.random.get_rng_state(), repr(np.random.get_state()), random.getstate()  # noqa: NPY002
    take(4)
    assert torch.equal(torch.random.get_rng_state(), before[0])
    assert (repr(np.random.get_state()), random.getstate()) == before[1:]  # noqa: NPY002


def test_a_cached_set_is_read_once_and_gives_the_same_batches() -> None:
    source = Numbered()
    stream = batches(list(in_order(source)), batch_size=3, augment=CONFIG, seed=0)
    assert all(same(a, b) for a, b in zip(take(7), islice(stream(0), 7), strict=True))
    assert source.reads == [1] * 10


@pytest.mark.parametrize("size", [0, 11])
def test_a_batch_must_fit_the_data_set(size: int) -> None:
    with pytest.raises(ConfigError, match=f"batch_size must be from 1 to the 10 samples of the data set, got {size}"):
        batches(Numbered(), batch_size=size, augment=CONFIG, seed=0)


def test_samples_of_different_size_are_an_error_that_names_them() -> None:
    with pytest.raises(ValueError, match=r"one size .* got sample 0 \(24, 32\), sample 1 \(8, 8\); crop them"):
        FlowBatch.collate([Numbered()[0], Numbered(size=(8, 8))[1]])
    with pytest.raises(ValueError, match="got no sample"):
        FlowBatch.collate([])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_sample_that_cannot_be_read_stops_the_stream_by_name(workers: int) -> None:
    stream = batches(Broken(), batch_size=3, augment=CONFIG, seed=0, workers=workers)
    with pytest.raises(FileFormatError, match=r"\d\.flo: expected a flow, got rubbish"):
        next(stream(0))


def test_a_batch_moves_to_a_device_whole() -> None:
    moved = take(1)[0].to("meta")
    assert {tensor.device.type for tensor in (moved.image1, moved.image2, moved.flow, moved.valid)} == {"meta"}


def test_workers_do_not_hang_after_opencv_has_used_its_threads() -> None:
    """A forked copy of OpenCV's thread pool has no threads: whoever waits for them waits for ever."""
    program = """
import cv2, numpy as np
from tests.flow.test_data_batches import take
cv2.setNumThreads(2)
cv2.GaussianBlur(np.zeros((1000, 1000, 3), np.float32), (0, 0), 5)
assert len(take(2, workers=1)) == 2 and cv2.getNumThreads() == 2
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300, cwd=Path(__file__).parents[2])
