"""Which pairs of a set are held out of training, so that what is measured on them was not seen, nor its like."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch.utils.data import Dataset

from deq_core.experiment.config import ConfigError
from deq_flow.data.samples import FlowSample, SampleSet


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Pairs of the training sets that validation is on, and training is not."""

    share: float = 0.1
    """Of the pairs of each set, in whole scenes where it has several; at least one pair, or scene."""
    pairs: int = 50
    """How many of them are measured at most, evenly spaced."""

    def __post_init__(self) -> None:
        if not 0 < self.share < 1 or self.pairs < 1:
            raise ValueError(
                f"held_out: expected a share above 0 and below 1 and at least 1 pair, got {self.share} and {self.pairs}"
            )


def split(pairs: SampleSet, share: float) -> tuple[list[int], list[int]]:
    """The indices of the pairs to train on, and of those that are held out: about the share of all.

    Neighbouring frames look alike, so whole scenes are held out: from the last one on, those that fit into the share,
    or the smallest one where none does. Of a set without scenes, or with one, it is the last pairs.

    Raises:
        ConfigError: there is only one pair.
    """
    count = len(pairs)
    if count < 2:
        raise ConfigError(f"expected at least 2 pairs, one to train on and one to measure, got {count}; add some")
    wanted = min(max(round(share * count), 1), count - 1)
    groups = scenes(pairs)
    if len(groups) < 2:
        return list(range(count - wanted)), list(range(count - wanted, count))
    chosen: list[Sequence[int]] = []
    for group in reversed(groups):
        if sum(map(len, chosen)) + len(group) <= wanted:
            chosen.append(group)
    held = {index for group in chosen or [min(reversed(groups), key=len)] for index in group}
    return [index for index in range(count) if index not in held], sorted(held)


def scenes(pairs: Any) -> list[Sequence[int]]:
    """The indices of each scene of a set: its `groups` or else its `sequences`, or all where it has neither."""
    for name in ("groups", "sequences"):
        if hasattr(pairs, name):
            return list(getattr(pairs, name)().values())
    return [range(len(pairs))]


class Chosen(Dataset[FlowSample]):
    """Some pairs of one or more sets.

    Args:
        places: the set of each, and its index there.
    """

    def __init__(self, places: Sequence[tuple[SampleSet, int]]) -> None:
        self.places = tuple(places)

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> FlowSample:
        pairs, place = self.places[index]
        return pairs[place]


def kept(pairs: SampleSet, choice: HeldOut) -> Chosen:
    """The pairs of a set that are trained on."""
    return Chosen([(pairs, index) for index in split(pairs, choice.share)[0]])


def held_out(sets: Sequence[SampleSet], choice: HeldOut) -> Chosen:
    """The pairs of some sets that are held out and measured, evenly spaced; a set that is there twice counts once."""
    apart = {id(pairs): pairs for pairs in sets}.values()
    places = [(pairs, index) for pairs in apart for index in split(pairs, choice.share)[1]]
    count = min(choice.pairs, len(places))
    return Chosen([places[index * len(places) // count] for index in range(count)])
