"""The released data sets as the data of a pipeline: found, checked and listed in a manifest, but left where they are.

They take hundreds of gigabytes, so that the pipeline's folder holds `manifest.json` alone, which says where they lie.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from deq_core.experiment.checks import Problem
from deq_core.experiment.fetch import fetch
from deq_core.experiment.files import output_directory, write_json
from deq_core.experiment.layout import LayoutError
from deq_flow.data.catalogue import SOURCES
from deq_flow.data.check import FOLDERS, check

SetName = Literal["chairs", "things", "sintel", "kitti", "hd1k", "spring"]
SHOWN = 20


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
    """Fetches the sets that are not at `config.root` yet, checks all, and writes `out`/manifest.json.

    The manifest lists every file with its size; so that what was trained on them is outdated when the files change.

    Raises:
        LayoutError: something is missing or damaged, by file; or a set must be got by hand, with instructions.
        DownloadError: a download failed; it continues next time.
    """
    root = Path(config.root).expanduser()
    problems: list[Problem] = []
    for name in config.sets:
        if not (root / FOLDERS[name]).exists() and name in SOURCES:
            fetch(SOURCES[name], root)
        problems += check(name, root, released=config.complete)
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems[:SHOWN])
        more = f"\n  and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise LayoutError(
            f"data: {len(problems)} problems below {root}; `deq-flow check-data` lists each set's:\n{listed}{more}"
        )
    files = {
        path.relative_to(root).as_posix(): path.stat().st_size
        for name in config.sets
        for path in sorted((root / FOLDERS[name]).rglob("*"))
        if path.is_file()
    }
    with output_directory(out) as partial:
        write_json(partial / "manifest.json", {"root": str(root.resolve()), "files": files})


def located(data: Path) -> Path:
    """The folder that holds the sets of the pipeline's folder `data`: itself, or where its manifest says."""
    manifest = data / "manifest.json"
    try:
        root = json.loads(manifest.read_text()).get("root")
    except FileNotFoundError:
        return data  # a folder of sets that no pipeline wrote
    return data if root is None else Path(root)
