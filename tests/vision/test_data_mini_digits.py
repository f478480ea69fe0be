"""Clutter digits: what is written can be read back, is divided by digit and photograph, and always the same bytes."""

import hashlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from deq_core.experiment.data import photographs
from deq_core.experiment.outputs.written import files_of
from deq_vision.data.mini import digits
from deq_vision.data.mini.digits import DigitsConfig, Glyphs, clutter_digit
from deq_vision.data.mini.write_digits import MiniDigitsConfig, write_digits
from deq_vision.data.sets.cifar import Cifar10

CONFIG = MiniDigitsConfig(train=12, val=3, test=4)
SPLITS = {
    "train": (0, digits.TRAINING, photographs.TRAINING),
    "val": (1, digits.VALIDATION, photographs.VALIDATION),
    "test": (2, digits.TEST, photographs.TEST),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "digits"
    write_digits(path, CONFIG)
    return path


def digests(root: Path) -> dict[str, str]:
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files_of(root)}


@pytest.mark.parametrize(("split", "count"), [("train", 12), ("val", 3), ("test", 4)])
def test_every_split_holds_the_images_of_its_own_digits_and_photographs(root: Path, split: str, count: int) -> None:
    kind, part, names = SPLITS[split]
    found = Cifar10(root, split)  # pyright: ignore[reportArgumentType]  # one of its literals
    assert len(found) == count
    glyphs, pictures = Glyphs.load(part), photographs.load_all(names)
    for index in range(count):
        rng = np.random.default_rng([0, kind, index])
        label = int(rng.integers(10))
        expected = clutter_digit(rng, label, glyphs, pictures, CONFIG.digits)
        assert found[index].label == label
        assert torch.equal(found[index].image, torch.from_numpy(expected).permute(2, 0, 1))


def test_the_splits_share_no_digit() -> None:
    everything = Glyphs.load(slice(None))
    parts = [Glyphs.load(part) for _, part, _ in SPLITS.values()]
    assert sum(len(part.labels) for part in parts) == len(everything.labels) == 1797
    assert np.array_equal(np.concatenate([part.ink for part in parts]), everything.ink)
    assert all(set(part.labels.tolist()) == set(range(10)) for part in parts)


def test_the_digit_stands_out_by_the_contrast() -> None:
    config = DigitsConfig(fragments=(0, 0), noise=0.0, tint=0.0, contrast=(60.0, 60.0), size=(28.0, 28.0))
    picture = (np.full((64, 64, 3), 120, np.uint8),)
    for index in range(20):
        image = clutter_digit(np.random.default_rng(index), index % 10, Glyphs.load(slice(0, 50)), picture, config)
        difference = np.abs(image.astype(int) - 120).max(axis=2)
        assert difference.max() == 60
        assert 0.05 < (difference > 30).mean() < 0.6


def test_a_piece_of_a_digit_is_smaller_than_the_digit() -> None:
    rng = np.random.default_rng(0)
    ink = digits.random_stroke(rng, Glyphs.load(slice(0, 1)).ink[0], DigitsConfig())
    cut = digits.random_cut(rng, ink, DigitsConfig(fragment_share=(0.5, 0.5)))
    assert 0 < (ink * cut).sum() < 0.9 * ink.sum()


def test_the_same_configuration_gives_the_same_bytes_on_any_number_of_threads(root: Path, tmp_path: Path) -> None:
    threads = cv2.getNumThreads()
    cv2.setNumThreads(4)
    try:
        write_digits(tmp_path / "again", CONFIG)
        assert cv2.getNumThreads() == 4
    finally:
        cv2.setNumThreads(threads)
    assert digests(tmp_path / "again") == digests(root)


def test_items_depend_on_no_other_item_but_on_the_seed(root: Path, tmp_path: Path) -> None:
    write_digits(tmp_path / "fewer", replace(CONFIG, train=5))
    write_digits(tmp_path / "other", replace(CONFIG, seed=1))
    first, fewer, other = digests(root), digests(tmp_path / "fewer"), digests(tmp_path / "other")
    same = {name for name in first if first[name] == fewer[name]}
    assert {Path(name).name for name in same} == {"batches.meta.txt", "test_batch.bin", "val_batch.bin"}
    assert torch.equal(Cifar10(root)[0].image, Cifar10(tmp_path / "fewer")[0].image)
    assert {Path(name).name for name in first if first[name] == other[name]} == {"batches.meta.txt"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": (6.0, 20.0)}, "size must be from 8 to 32 pixels"),
        ({"contrast": (50.0, 40.0)}, "contrast must be 0 <= least <= greatest"),
        ({"zoom": (0.0, 1.0)}, "zoom must be positive"),
        ({"noise": -1.0}, "must not be negative"),
    ],
)
def test_settings_are_checked_when_made(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DigitsConfig(**change)  # pyright: ignore[reportArgumentType]  # one wrong value at a time


def test_sizes_are_checked_when_made() -> None:
    with pytest.raises(ValueError, match="train must be at least 5, val and test at least 1, got 4, 3 and 4"):
        replace(CONFIG, train=4)
    with pytest.raises(ValueError, match="seed must be at least 0, got -1"):
        replace(CONFIG, seed=-1)
