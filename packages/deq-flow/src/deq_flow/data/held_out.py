"""Splits of a set into training pairs and held-out pairs, by whole scenes if it has several."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch.utils.data import ConcatDataset, Subset

from deq_core.experiment.config import ConfigError
from deq_flow.data.samples import FlowSample, SampleSet
from deq_flow.data.sets.layout import Pairs


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Pairs of the training sets that are held out for validation."""

    share: float = 0.1
    """Share of the pairs of each set, in whole scenes if it has several; at least one pair, or scene."""
    pairs: int = 50
    """Greatest number of held-out pairs that are measured; these are evenly spaced."""

    def __post_init__(self) -> None:
        if not 0 < self.share < 1 or self.pairs < 1:
            raise ValueError(
                f"held_out: expected a share above 0 and below 1 and at least 1 pair, got {self.share} and {self.pairs}"
            )


def split(pairs: SampleSet, share: float) -> tuple[list[int], list[int]]:
    """The indices of the training pairs, and of the held-out ones, which are about `share` of all.

    Neighbouring frames look alike, so whole scenes are held out: going back from the last one, those that fit into the
    share, or the smallest one if none does. If a set has fewer than two scenes, the last pairs are held out.

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
    """The indices of each scene of a set: its `groups`, else its `sequences`, else all as one scene."""
    for name in ("groups", "sequences"):
        if hasattr(pairs, name):
            return list(getattr(pairs, name)().values())
    return [range(len(pairs))]


def kept(pairs: Pairs, choice: HeldOut) -> Subset[FlowSample]:
    """The training pairs of a set."""
    return Subset(pairs, split(pairs, choice.share)[0])


def held_out(sets: Sequence[Pairs], choice: HeldOut) -> Subset[FlowSample]:
    """The measured held-out pairs of some sets, evenly spaced; a repeated set counts once."""
    apart = list({id(pairs): pairs for pairs in sets}.values())
    whole = ConcatDataset(apart)
    starts = zip([0, *whole.cumulative_sizes[:-1]], apart, strict=True)
    places = [start + index for start, pairs in starts for index in split(pairs, choice.share)[1]]
    count = min(choice.pairs, len(places))
    return Subset(whole, [places[index * len(places) // count] for index in range(count)])
