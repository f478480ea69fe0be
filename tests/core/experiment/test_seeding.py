"""Random numbers depend on the seed and the place alone."""

import random

import numpy as np
import torch

from deq_core.experiment.seeding import derive, item_rng, seed_everything


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.random()), float(torch.rand(()))  # noqa: NPY002 - the global generator


def test_one_seed_gives_one_stream_in_every_library() -> None:
    seed_everything(3)
    first = draws()
    seed_everything(4)
    other = draws()
    seed_everything(3)
    assert draws() == first
    assert all(a != b for a, b in zip(first, other, strict=True))


def test_an_item_has_its_own_generator_whatever_was_drawn_before() -> None:
    places = [(seed, epoch, index) for seed in (0, 1) for epoch in (0, 1) for index in range(5)]
    first = {place: item_rng(*place).random() for place in places}
    assert {place: item_rng(*place).random() for place in reversed(places)} == first
    assert len(set(first.values())) == len(places)


def test_derived_seeds_differ_by_place_and_fit_every_generator() -> None:
    seeds = {derive(seed, place) for seed in range(20) for place in range(20)}
    assert len({seed % 2**32 for seed in seeds}) == 400  # the bits that PyTorch's CPU generator uses
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive(1, 2) == derive(1, 2) != derive(2, 1)


def test_what_made_an_item_is_not_drawn_again_for_its_augmentation() -> None:
    """The first draw made a label, and once also the crop it was trained on: the label could be read there."""
    places = [(0, 0, index) for index in range(200)]
    made = np.array([np.random.default_rng(place).random() for place in places])
    drawn = np.array([item_rng(*place).random() for place in places])
    assert abs(np.corrcoef(made, drawn)[0, 1]) < 0.2
