"""Random numbers as functions of a seed and a position, independent of the number of workers and of interruptions."""

import random

import numpy as np
import torch

_ITEMS = 1
"""Spawn key that separates the generators of training items from others with the same numbers."""


def seed_everything(seed: int) -> None:
    """Seeds the global generators of Python, NumPy and PyTorch (on all devices), for code that draws from them."""
    random.seed(seed)
    # NumPy's global generator takes 32-bit words; SeedSequence mixes all bits of a longer seed into them
    np.random.seed(np.random.SeedSequence(seed).generate_state(4))  # noqa: NPY002 - the global one is meant
    torch.manual_seed(seed)


def item_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The generator of item `index` in epoch `epoch`, independent of all other items of the same seed.

    It also differs from `np.random.default_rng([seed, epoch, index])`. If data were generated from the same three
    numbers, augmentation would repeat the draws that made an image, and could reveal its label.
    """
    return np.random.default_rng(np.random.SeedSequence([seed, epoch, index], spawn_key=(_ITEMS,)))


def derive(seed: int, *place: int) -> int:
    """A 63-bit seed for one position in an experiment, such as a step, with all bits mixed.

    PyTorch's CPU generator uses only the lower 32 bits of its seed, so seeds must differ in these.
    """
    return int(np.random.SeedSequence([seed, *place]).generate_state(1, np.uint64)[0] >> np.uint64(1))
