"""Mixes of training sets, with their weights and augmentation."""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from torch.utils.data import Dataset

from deq_core.experiment.config import one_of
from deq_flow.data.augment import AugmentConfig
from deq_flow.data.registry import SETS
from deq_flow.data.samples import FlowSample, SampleSet
from deq_flow.data.sets.layout import Pairs

READERS: Mapping[str, Callable[[Path], Pairs]] = {
    name: read for found in SETS.values() for name, read in found.training.items()
}
"""Readers of the training split of each set below a folder."""
if TYPE_CHECKING:
    TrainingSet = str
else:
    TrainingSet = one_of(READERS)


@dataclass(frozen=True, kw_only=True)
class MemberConfig:
    """One data set of a mix."""

    data: TrainingSet
    augment: AugmentConfig
    weight: int = 1
    """Number of times that each of its samples occurs in an epoch, augmented anew each time."""
    folder: str = "."
    """Folder of the set below the folder of the data."""

    def __post_init__(self) -> None:
        if self.data not in READERS:
            raise ValueError(f"data must be one of {', '.join(READERS)}, got {self.data!r}")
        if self.weight < 1:
            raise ValueError(f"weight of {self.data} must be at least 1, got {self.weight}")


class Mix(Dataset[FlowSample]):
    """The concatenation of several sets, each repeated according to its weight.

    A repeated sample has a different index each time, and so different augmentation; nothing is copied. The name of a
    sample begins with that of its set.

    Args:
        members: members of the mix.
        samples: set of each member, in the same order.

    Raises:
        ValueError: there is no member, the number of sets is not that of members, or crops differ.
    """

    def __init__(self, members: Sequence[MemberConfig], samples: Sequence[SampleSet]) -> None:
        crops = {member.augment.crop: member.data for member in members}
        if len(crops) != 1:
            listing = ", ".join(f"{name} {crop}" for crop, name in crops.items()) or "no member"
            raise ValueError(
                f"a mix needs members of one crop (h, w), since their samples share batches; got {listing}"
            )
        self.members = tuple(members)
        self.samples = tuple(samples)
        counts = [member.weight * len(each) for member, each in zip(members, samples, strict=True)]
        self.ends = list(accumulate(counts))

    def __len__(self) -> int:
        return self.ends[-1]

    def __getitem__(self, index: int) -> FlowSample:
        which = self.member_of(index)
        start = self.ends[which - 1] if which else 0
        samples = self.samples[which]
        sample = samples[(index - start) % len(samples)]
        return replace(sample, name=f"{self.members[which].data}/{sample.name}")

    def augmentation(self, index: int) -> AugmentConfig:
        """The augmentation of the sample at `index`, for the argument `augment` of `batches`."""
        return self.members[self.member_of(index)].augment

    def member_of(self, index: int) -> int:
        """The number of the member that the sample at `index` comes from."""
        if not 0 <= index < len(self):
            raise IndexError(f"index must be from 0 to {len(self) - 1}, got {index}")
        return bisect_right(self.ends, index)


def files_of(sets: Iterable[Pairs]) -> set[Path]:
    """All files of some sets."""
    files = (path for pairs in sets for pair in pairs.files for path in (pair.first, pair.second, *pair.beside))
    return {path for path in files if path.exists()}


def open_sets(members: Sequence[MemberConfig], root: Path) -> list[Pairs]:
    """The training set of each member below `root`; a set and folder that occur several times are read once.

    Raises:
        LayoutError: a set is missing or incomplete.
    """
    places = {(member.data, member.folder) for member in members}
    sets = {(data, folder): READERS[data](root / folder) for data, folder in places}
    return [sets[member.data, member.folder] for member in members]
