"""Mixes of data sets: how often each sample comes and how it is augmented."""

from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.flow.small import mini

from deq_flow.data.augment import AugmentConfig
from deq_flow.data.batches import batches
from deq_flow.data.mini.write import write_mini
from deq_flow.data.mixes import MemberConfig, Mix, open_sets
from deq_flow.data.samples import FlowSample

STILL = AugmentConfig(crop=(8, 8), eraser_size=(2, 4), scale_chance=0.0, flip_chance=(0.0, 0.0))
CHAIRS = MemberConfig(data="chairs", augment=STILL)
KITTI_TWICE = MemberConfig(data="kitti", augment=replace(STILL, sparse=True), weight=2)


class Shades:
    """Samples whose flow is `first` and so on; counts how often each is read."""

    def __init__(self, first: int, count: int) -> None:
        self.first = first
        self.reads = [0] * count

    def __len__(self) -> int:
        return len(self.reads)

    def __getitem__(self, index: int) -> FlowSample:
        if not 0 <= index < len(self):
            raise IndexError(index)
        self.reads[index] += 1
        rng = np.random.default_rng(self.first + index)
        image = torch.from_numpy(rng.integers(0, 256, (3, 12, 16), dtype=np.uint8))
        flow = torch.full((2, 12, 16), float(self.first + index))
        return FlowSample(image, image, flow, torch.ones(12, 16, dtype=torch.bool), str(index))


@pytest.fixture
def mix() -> Mix:
    return Mix([CHAIRS, KITTI_TWICE], [Shades(0, 3), Shades(10, 2)])


def test_a_mix_has_each_sample_as_often_as_its_weight(mix: Mix) -> None:
    assert len(mix) == 3 + 2 * 2
    names = ["chairs/0", "chairs/1", "chairs/2", "kitti/0", "kitti/1", "kitti/0", "kitti/1"]
    assert [mix[index].name for index in range(len(mix))] == names
    assert [int(mix[index].flow[0, 0, 0]) for index in range(len(mix))] == [0, 1, 2, 10, 11, 10, 11]


def test_each_sample_is_augmented_as_its_member_says(mix: Mix) -> None:
    assert [mix.augmentation(index).sparse for index in range(len(mix))] == [False] * 3 + [True] * 4


@pytest.mark.parametrize("index", [-1, 7])
def test_an_index_outside_a_mix_is_an_error(mix: Mix, index: int) -> None:
    for read in (mix.__getitem__, mix.augmentation):
        with pytest.raises(IndexError, match=f"from 0 to 6, got {index}"):
            read(index)


def test_making_a_mix_reads_no_sample() -> None:
    shades = Shades(0, 3)
    mix = Mix([replace(CHAIRS, weight=1_000_000)], [shades])
    assert len(mix) == 3_000_000
    assert shades.reads == [0, 0, 0]


def test_an_epoch_of_batches_has_the_weights_of_the_mix(mix: Mix) -> None:
    stream = batches(mix, batch_size=1, augment=mix.augmentation, seed=0)
    flows = Counter(int(batch.flow[0, 0, 0, 0]) for batch in islice(stream(0), len(mix)))
    assert flows == {0: 1, 1: 1, 2: 1, 10: 2, 11: 2}


def test_a_repeated_sample_is_augmented_differently_each_time(mix: Mix) -> None:
    stream = batches(mix, batch_size=1, augment=mix.augmentation, seed=0)
    images = [batch.image1 for batch in islice(stream(0), len(mix)) if int(batch.flow[0, 0, 0, 0]) == 10]
    assert len(images) == 2
    assert not torch.equal(images[0], images[1])


def test_members_of_different_crops_are_an_error() -> None:
    other = replace(KITTI_TWICE, augment=replace(STILL, crop=(4, 8)))
    with pytest.raises(ValueError, match=r"one crop .* got chairs \(8, 8\), kitti \(4, 8\)"):
        Mix([CHAIRS, other], [Shades(0, 1), Shades(0, 1)])
    with pytest.raises(ValueError, match="got no member"):
        Mix([], [])


def test_a_member_of_no_weight_or_unknown_data_is_an_error() -> None:
    with pytest.raises(ValueError, match="weight of chairs must be at least 1, got 0"):
        replace(CHAIRS, weight=0)
    with pytest.raises(ValueError, match=r"data must be one of chairs, .* got 'sintel'"):
        MemberConfig(data="sintel", augment=STILL)  # pyright: ignore[reportArgumentType] - the error under test


def test_a_mix_opens_the_sets_below_a_folder(tmp_path: Path) -> None:
    write_mini(tmp_path / "data", mini())
    members = [
        CHAIRS,
        MemberConfig(data="sintel-clean", augment=STILL),
        MemberConfig(data="sintel-final", augment=STILL, weight=3),
        KITTI_TWICE,
    ]
    mix = Mix(members, open_sets(members, tmp_path / "data"))
    assert len(mix) == 2 + 2 + 3 * 2 + 2 * 2
    stems = ["chairs/00001", "sintel-clean/scene_1/frame_0001", "sintel-final/scene_1/frame_0001", "kitti/000000"]
    assert [mix[index].name for index in (0, 2, 4, 10)] == stems
    assert not torch.equal(mix[2].image1, mix[4].image1)
