"""The released data sets of vision as the data of the pipeline."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from deq_core.experiment.data import released
from deq_vision.data.catalogue import SOURCES
from deq_vision.data.check import FOLDERS, check

SetName = Literal["cifar10", "imagenet", "cityscapes", "cityscapes-videos", "vid", "det"]


@dataclass(frozen=True, kw_only=True)
class ReleasedSets:
    """Which of the released sets are used, and where they are."""

    root: str
    """Folder of the sets, as `deq-vision fetch` fills it."""
    sets: tuple[SetName, ...]
    complete: bool = True
    """Whether a set must be the whole release; false takes a part of it."""
    kind: Literal["released"] = field(default="released", repr=False)


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
        sources=SOURCES,
        folders=FOLDERS,
        check=lambda name, root: check(name, root, released=config.complete),
    )
