"""The released data sets of optical flow as the data of the pipeline."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from deq_core.experiment.data import released
from deq_core.experiment.data.released import located as located
from deq_flow.data.catalogue import SOURCES
from deq_flow.data.check import FOLDERS, check

SetName = Literal["chairs", "things", "sintel", "kitti", "hd1k", "spring"]


@dataclass(frozen=True, kw_only=True)
class ReleasedConfig:
    """Which of the released sets are used, and where they are."""

    root: str
    """Folder of the sets, as `deq-flow fetch` fills it."""
    sets: tuple[SetName, ...]
    complete: bool = True
    """Whether a set must be the whole release; false takes a part of it."""
    kind: Literal["released"] = field(default="released", repr=False)


def prepare(out: Path, config: ReleasedConfig) -> None:
    """Fetches what is missing, checks all, and writes `out`/manifest.json; see `deq_core.experiment.data.released`.

    Raises:
        LayoutError: something is missing or damaged, by file; or a set must be got by hand, with instructions.
        DownloadError: a download failed; it continues next time.
    """
    released.prepare(
        out,
        Path(config.root).expanduser(),
        config.sets,
        program="deq-flow",
        sources=SOURCES,
        folders=FOLDERS,
        check=lambda name, root: check(name, root, released=config.complete),
    )
