"""The sets with ground truth: their readers, padding, protocols and titles."""

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
        """The indices of each video's pairs in temporal order: the second frame of one is the first of the next."""
        ...


SETS: Mapping[str, Labelled] = {
    **{name: found for of_set in PUBLISHED.values() for name, found in of_set.labelled.items()},
    "motorcycle": Labelled("motorcycle (real)", lambda root: Kitti(root / "Motorcycle"), "kitti"),
    "video": Labelled("long videos", lambda root: Sintel(root / "Video", "clean"), video=True),
    "validation_video": Labelled(
        "validation videos", lambda root: Sintel(root / "ValidationVideo", "clean"), video=True
    ),
}
"""The sets by name; only the embedded data have the last three."""

VIDEOS = tuple(name for name, found in SETS.items() if found.video)
"""Names of the sets whose pairs are consecutive frames of videos."""

EMBEDDED: Mapping[str, Labelled] = {
    "sintel_clean": replace(SETS["sintel_clean"], title="Sintel-mini clean"),
    "sintel_final": replace(SETS["sintel_final"], title="Sintel-mini final"),
    "kitti": replace(SETS["kitti"], title="KITTI-mini"),
    "motorcycle": SETS["motorcycle"],
}
"""The sets of the pipeline's main table, none of which shares a photograph with training."""


def as_published(choice: Inference, name: str) -> Inference:
    """`choice`, with the published number of iterations of unrolled networks for a set unless it has its own."""
    return replace(choice, steps=choice.steps or SETS[name].steps)


def sequences_of(name: str, root: Path) -> SequenceSet:
    """The set `name` below `root` as videos.

    Raises:
        ConfigError: there is no such set, or its pairs are not from videos.
    """
    if name not in VIDEOS:
        fault = f"the pairs of {name} are not consecutive frames" if name in SETS else f"no set is named {name!r}"
        raise ConfigError(f"{fault}; the sets of videos are {', '.join(VIDEOS)}")
    pairs = SETS[name].read(root)
    assert isinstance(pairs, SequenceSet)
    return pairs


def titles(names: Iterable[str]) -> dict[str, str]:
    """The titles of sets that were measured together, in the order of the table.

    If the motorcycle is among them, they are those of the embedded data, which alone have it.
    """
    together = set(names)
    table = {**SETS, **EMBEDDED} if "motorcycle" in together else SETS
    return {name: item.title for name, item in table.items() if name in together}


def named(name: str) -> tuple[str, ...]:
    """The names of the sets for `name`: itself, or all of its parts (sintel: sintel_clean and sintel_final).

    Raises:
        ConfigError: there is no such set.
    """
    found = tuple(key for key in SETS if name in (key, key.partition("_")[0]))
    if not found:
        known = dict.fromkeys(part for key in SETS for part in (key.partition("_")[0], key))
        raise ConfigError(f"no set is named {name!r}; there are {', '.join(known)}")
    return found
