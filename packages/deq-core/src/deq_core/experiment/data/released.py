"""Released data sets as the data of a pipeline: found, checked and listed in a manifest, but left where they are.

They take hundreds of gigabytes, so that the pipeline's folder holds `manifest.json` alone, which says where they lie.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from deq_core.experiment.data.checks import Problem
from deq_core.experiment.data.layout import LayoutError, files_below
from deq_core.experiment.download.fetch import Source, fetch
from deq_core.experiment.files import output_directory, require_own, require_writable, write_json
from deq_core.experiment.reading import decoding, read_bytes

SHOWN = 20


def prepare(
    out: Path,
    root: Path,
    sets: Sequence[str],
    *,
    program: str,
    sources: Mapping[str, Source],
    folders: Mapping[str, str],
    check: Callable[[str, Path], Sequence[Problem]],
    complete: bool,
) -> None:
    """Fetches the sets that are not at `root` yet, checks all, and writes `out`/manifest.json.

    The manifest lists every file with its size; so that what was trained on them is outdated when the files change.

    Args:
        out: folder of the pipeline.
        root: folder of the sets.
        sets: names of those that are used.
        program: whose command `check-data` lists all problems.
        sources: where sets are published.
        folders: of each set, below `root`.
        check: what is wrong with a set below a folder.
        complete: whether sets must be whole, so that of one that is there archives may be missing and are fetched too.

    Raises:
        LayoutError: something is missing or damaged, by file; or a set must be got by hand, with instructions.
        DownloadError: a download failed; it continues next time.
        OutputError: `out` cannot be written, or holds anything else.
    """
    require_writable(out, folder=True)
    require_own(out, folder=True)
    problems: list[Problem] = []
    for name in sets:
        there = (root / folders[name]).exists()
        whole = all((root / archive.out).exists() for archive in sources[name].archives)
        if not there or (complete and not whole):
            fetch(sources[name], root)
        problems += check(name, root)
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems[:SHOWN])
        more = f"\n  and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise LayoutError(
            f"data: {len(problems)} problems below {root}; `{program} check-data` lists each set's:\n{listed}{more}"
        )
    files = {
        path.relative_to(root).as_posix(): path.stat().st_size
        for folder in dict.fromkeys(folders[name] for name in sets)
        for path in files_below(root / folder)
        if path.is_file()
    }
    with output_directory(out) as partial:
        write_json(partial / "manifest.json", {"root": str(root.resolve()), "files": files})


def located(data: Path) -> Path:
    """The folder that holds the sets of the pipeline's folder `data`: itself, or where its manifest says.

    Raises:
        LayoutError: the manifest is damaged.
    """
    manifest = data / "manifest.json"
    if not manifest.exists():
        return data  # a folder of sets that no pipeline wrote
    content, again = read_bytes(manifest, LayoutError), "prepare the data again"
    with decoding(manifest, LayoutError, "a manifest as JSON", again):
        root = json.loads(content).get("root")
    if root is not None and (not isinstance(root, str) or "\0" in root):
        raise LayoutError(f"{manifest}: expected the path of a folder under root, got {root!r:.80}; {again}")
    return data if root is None else Path(root)
