"""The networks that a study measures: methods trained with several seeds, and shipped networks."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from deq_core.experiment.config import Name, Seed
from deq_core.experiment.study.stage import Section


@dataclass(frozen=True)
class Measured:
    """A network to measure."""

    network: Name
    """Name of a method or of a shipped checkpoint."""
    seed: Seed | None = None
    """Training seed of a method; None for a shipped checkpoint."""


def networks(section: Section, *, methods: str, seeds: str, shipped: str | None = None) -> list[Measured]:
    """All networks named under these keys of a section, grouped by method."""
    trained = product(section.load(tuple[Name, ...], methods), section.load(tuple[Seed, ...], seeds))
    alone = () if shipped is None else section.load(tuple[Name, ...], shipped)
    return [*(Measured(*each) for each in trained), *map(Measured, alone)]


def first_seeds(measured: Sequence[Measured]) -> dict[str, Measured]:
    """The first seed of each network, for figures that show one."""
    found: dict[str, Measured] = {}
    for each in measured:
        found.setdefault(each.network, each)
    return found


def by_network(measured: Sequence[Measured]) -> dict[str, list[Measured]]:
    """All seeds of each network, in order of first appearance; a shipped network is separate from trained ones."""
    trained = {each.network for each in measured if each.seed is not None}
    found: dict[str, list[Measured]] = {}
    for each in measured:
        apart = each.seed is None and each.network in trained
        found.setdefault(f"{each.network}, shipped" if apart else each.network, []).append(each)
    return found
