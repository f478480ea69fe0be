"""What a study measures: methods, each trained from some seeds, and networks that come with a package."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from deq_core.experiment.config import Name, Seed
from deq_core.experiment.study.stage import Section


@dataclass(frozen=True)
class Measured:
    """One network."""

    network: Name
    """A method, or a shipped checkpoint."""
    seed: Seed | None = None
    """Of a method's training; a shipped checkpoint has none."""


def networks(section: Section, *, methods: str, seeds: str, shipped: str | None = None) -> list[Measured]:
    """Every network that these keys of a section name, those of one method together."""
    trained = product(section.load(tuple[Name, ...], methods), section.load(tuple[Seed, ...], seeds))
    alone = () if shipped is None else section.load(tuple[Name, ...], shipped)
    return [*(Measured(*each) for each in trained), *map(Measured, alone)]


def first_seeds(measured: Sequence[Measured]) -> dict[str, Measured]:
    """The first of each network, for figures that show one."""
    found: dict[str, Measured] = {}
    for each in measured:
        found.setdefault(each.network, each)
    return found


def by_network(measured: Sequence[Measured]) -> dict[str, list[Measured]]:
    """All of each network, in order of first appearance; a shipped one apart from trained ones of its name."""
    trained = {each.network for each in measured if each.seed is not None}
    found: dict[str, list[Measured]] = {}
    for each in measured:
        apart = each.seed is None and each.network in trained
        found.setdefault(f"{each.network}, shipped" if apart else each.network, []).append(each)
    return found
