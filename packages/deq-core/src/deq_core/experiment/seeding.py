"""Random numbers as functions of a seed and a place: the same whatever the number of workers or interruptions."""

import random

import numpy as np
import torch

_ITEMS = 1
"""Keeps the draws for items of training apart from all that is drawn from the same numbers elsewhere."""


def seed_everything(seed: int) -> None:
    """Seeds Python's, NumPy's and PyTorch's global generators (on every device), for code that draws from them."""
    random.seed(seed)
    # NumPy's global generator takes words of 32 bits, into which the sequence mixes all of a longer seed
    np.random.seed(np.random.SeedSequence(seed).generate_state(4))  # noqa: NPY002 - it is the global one that is meant
    torch.manual_seed(seed)


def item_rng(seed: int, epoch: int, index: int) -> np.random.Generator:
    """The generator of item `index` in epoch `epoch`; independent of all others of the same seed.

    Independent of `np.random.default_rng([seed, epoch, index])` too: where data are generated from three such numbers,
    training would otherwise draw again what made an image, and could read its label from how it is augmented.
    """
    return np.random.default_rng(np.random.SeedSequence([seed, epoch, index], spawn_key=(_ITEMS,)))


def derive(seed: int, *place: int) -> int:
    """A seed of 63 bits for one place of an experiment, such as a step, with all bits mixed.

    PyTorch's CPU generator uses the lower 32 of its seed alone, so seeds must differ there and not only above.
    """
    return int(np.random.SeedSequence([seed, *place]).generate_state(1, np.uint64)[0] >> np.uint64(1))
