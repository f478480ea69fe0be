"""The published data sets by name, checked on disk and as the data of the pipeline."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from deq_core.experiment.data import checks, released
from deq_core.experiment.data.checks import Problem
from deq_vision.data.published import DataSet
from deq_vision.data.sets import cifar, cityscapes, imagenet, imagenet_vid

SETS: Mapping[str, DataSet] = {**cifar.SETS, **imagenet.SETS, **cityscapes.SETS, **imagenet_vid.SETS}


def check(name: str, root: Path, *, released: bool = True, thorough: bool = False) -> list[Problem]:
    """What is wrong with the data set `name` below `root`; empty if it is complete and every file whole.

    Every file that a reader needs must be there, and every image and annotation of the set be whole. Label files of
    Cityscapes and annotations of ImageNet must have the sizes of their frames.

    Args:
        name: a key of `SETS`.
        root: folder of the data sets.
        released: whether the numbers of samples must be those of the release, and every split be there. False for a
            mini set or a part of the release, of which only what is there is checked.
        thorough: whether images are decoded too, which takes hours. It finds part of the JPEGs that were overwritten in
            their middle, and label files that hold other numbers than label ids.

    Raises:
        ValueError: there is no such set.
    """
    if name not in SETS:
        raise ValueError(f"expected one of the sets {', '.join(SETS)}, got {name!r}")
    found = SETS[name]
    folder = root / found.folder
    whole = {suffix: partial(of_file, decoded=thorough) for suffix, of_file in found.whole.items()}
    places = [folder / place for place in found.places]
    return checks.check(folder, found.parts, whole, released=released, unit="samples", places=places)


@dataclass(frozen=True, kw_only=True)
class ReleasedSets:
    """Which of the released sets are used, and where they are."""

    root: str
    """Folder of the sets, as `deq-vision fetch` fills it."""
    sets: tuple[str, ...]
    """Keys of `SETS`."""
    complete: bool = True
    """Whether a set must be the whole release; false takes a part of it."""
    kind: Literal["released"] = field(default="released", repr=False)

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.sets) - SETS.keys()):
            raise ValueError(f"sets: expected some of {', '.join(SETS)}, got {', '.join(unknown)}")


def prepare(out: Path, config: ReleasedSets) -> None:
    """Fetches what is missing, checks all, and writes `out`/manifest.json; see `deq_core.experiment.data.released`.

    Raises:
        LayoutError: something is missing or damaged, by file; or a set must be got by hand, with instructions.
        DownloadError: a download failed; it continues next time.
    """
    released.prepare(
        out,
        Path(config.root).expanduser(),
        config.sets,
        program="deq-vision",
        sources={name: found.source for name, found in SETS.items()},
        folders={name: found.folder for name, found in SETS.items()},
        check=lambda name, root: check(name, root, released=config.complete),
    )
