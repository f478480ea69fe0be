"""Removes the outputs of stages that are no longer in the graph from the workspace.

When a sweep shrinks, the outputs of its stages stay on disk, and count for stages that depend on their folder. They are
removed if DVC's cache has the same content under the MD5 in dvc.lock, from which they come back with their stages.
"""

import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from workflows.engines import cache, graph


def take_out() -> bool:
    """Removes leftovers and prints a message; returns whether any were removed.

    Files that were changed, or that the cache does not have, stay, with a message for each.
    """
    store = cache.folder()
    removed: defaultdict[str, list[Path]] = defaultdict(list)
    for stage, path, md5 in leftovers():
        entry = store / md5[:2] / md5[2:]
        if entry.is_file() and cache.md5_of(path) == md5 == cache.md5_of(entry):
            path.unlink()
            removed[stage.partition("@")[0]].append(path)
        else:
            print(
                f"{path}: left by the stage {stage}, which is no longer there, and not what DVC's cache has of it, so "
                "it stays and counts where a stage reads its folder; move it elsewhere, or delete it",
                file=sys.stderr,
            )
    files = [path for paths in removed.values() for path in paths]
    if files:
        print(
            f"{len(files)} files of stages that are no longer there, of {', '.join(removed)}, were taken out of the "
            "workspace; DVC's cache has them until `dvc gc`, and with their stages they come back",
            file=sys.stderr,
        )
    for path in files:
        remove_empty(path.parent)
    return bool(files)


def leftovers() -> Iterator[tuple[str, Path, str]]:
    """Stage, path and MD5 of each file on disk that is an output in dvc.lock but no longer in dvc.yaml."""
    recorded = cache.recorded()
    if not recorded:
        return
    stages = graph.stages()
    written = {Path(path) for stage in stages.values() for path in graph.outputs(stage)}
    for stage in recorded.keys() - stages.keys():
        for output, md5 in recorded[stage].items():
            for path, of_path in cache.below(output, md5, cache.folder()):
                if path.is_file() and written.isdisjoint((path, *path.parents)):
                    yield stage, path, of_path


def remove_empty(folder: Path) -> None:
    """Removes a folder and its parents as long as they are empty."""
    while folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
