"""The sets with ground truth: what reads each, how its frames are padded, how its samples are joined, and its title."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from deq_core.experiment.config import ConfigError
from deq_flow.data.published import Labelled
from deq_flow.data.registry import SETS as PUBLISHED
from deq_flow.data.samples import SampleSet
from deq_flow.data.sets.kitti import Kitti
from deq_flow.data.sets.sintel import Sintel
from deq_flow.inference_params import Inference


@runtime_checkable
class SequenceSet(SampleSet, Protocol):
    """A set whose pairs come from videos."""

    def sequences(self) -> dict[str, range]:
        """The indices of each video's pairs in order of time: the second frame of one is the first of the next."""
        ...


SETS: Mapping[str, Labelled] = {
    **{name: found for of_set in PUBLISHED.values() for name, found in of_set.labelled.items()},
    "motorcycle": Labelled("motorcycle (real)", lambda root: Kitti(root / "Motorcycle"), "kitti"),
    "video": Labelled("long videos", lambda root: Sintel(root / "Video", "clean"), video=True),
    "validation_video": Labelled(
        "validation videos", lambda root: Sintel(root / "ValidationVideo", "clean"), video=True
    ),
}
"""By name; the last three come with the embedded data alone."""

VIDEOS = tuple(name for name, found in SETS.items() if found.video)
"""Those whose pairs are consecutive frames of videos."""

EMBEDDED: Mapping[str, Labelled] = {
    "sintel_clean": replace(SETS["sintel_clean"], title="Sintel-mini clean"),
    "sintel_final": replace(SETS["sintel_final"], title="Sintel-mini final"),
    "kitti": replace(SETS["kitti"], title="KITTI-mini"),
    "motorcycle": SETS["motorcycle"],
}
"""The sets of the pipeline's main table, none of which shares a photograph with training."""


def as_published(choice: Inference, name: str) -> Inference:
    """A choice whose iterations of unrolled networks, where it leaves them open, are those published for a set."""
    return replace(choice, steps=choice.steps or SETS[name].steps)


def sequences_of(name: str, root: Path) -> SequenceSet:
    """The set `name` below `root` as videos.

    Raises:
        ConfigError: there is none, or its pairs do not come from videos.
    """
    if name not in VIDEOS:
        fault = f"the pairs of {name} are not consecutive frames" if name in SETS else f"no set is named {name!r}"
        raise ConfigError(f"{fault}; the sets of videos are {', '.join(VIDEOS)}")
    pairs = SETS[name].read(root)
    assert isinstance(pairs, SequenceSet)
    return pairs


def known(name: str) -> Labelled:
    """The set of a name.

    Raises:
        ConfigError: there is none.
    """
    if name not in SETS:
        raise ConfigError(f"no set is named {name!r}; there are {', '.join(SETS)}")
    return SETS[name]


def titles(names: Iterable[str]) -> dict[str, str]:
    """The titles of some sets that were measured together, in the order of the table.

    With the motorcycle, which no published set has, they are those of the embedded data.
    """
    together = set(names)
    table = {**SETS, **EMBEDDED} if "motorcycle" in together else SETS
    return {name: item.title for name, item in table.items() if name in together}


def named(name: str) -> tuple[str, ...]:
    """The sets that `name` stands for: itself, or all of its parts (sintel: sintel_clean and sintel_final).

    Raises:
        ConfigError: there is none.
    """
    found = tuple(key for key in SETS if name in (key, key.partition("_")[0]))
    if not found:
        known = dict.fromkeys(part for key in SETS for part in (key.partition("_")[0], key))
        raise ConfigError(f"no set is named {name!r}; there are {', '.join(known)}")
    return found
