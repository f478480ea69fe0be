"""Tells Snakemake which stages DVC finds out of date, by the modification times of files.

DVC decides by content which stages are up to date, and records it in dvc.lock. Before Snakemake plans, outputs of
changed stages get a date in 1970, so that their rules run, and outputs of unchanged stages one no older than their
inputs, so that theirs do not. Only public interfaces are used: `Repo.status` of DVC, dvc.lock and os.utime.

`python -m workflows.dvc_state` does the same by hand, and repairs files that a killed DVC left half written.
"""

import os
import re
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from itertools import count
from pathlib import Path
from typing import Any

import yaml
from dvc.repo import Repo

from workflows.engines import cache as dvc_cache
from workflows.engines import graph, leftovers, workspace

DAMAGED = re.compile(r"unable to read: '(?:\./)?dvc\.lock'|dvc\.lock' (?:is invalid|validation failed)|(RWLock-file)")
CONFLICT = re.compile(r"^<{7} .*^={7}$.*^>{7} ", re.MULTILINE | re.DOTALL)
ALWAYS = "always changed"
"""What DVC reports for a stage that runs each time, which does not count as changed."""
BUSY_SECONDS = 20.0
"""Time to wait for a DVC process that outlived its Snakemake and is still finishing a stage."""
LONG_AGO = 24 * 3600.0
"""Date of outdated outputs, 2 January 1970: older than any input, and not 0, which means "no date"."""


class StateError(RuntimeError):
    """DVC cannot tell the state of the workspace."""


@dataclass(frozen=True)
class Stage:
    """The paths that a stage in dvc.lock read, including parameter files, and wrote."""

    inputs: tuple[Path, ...]
    outputs: tuple[Path, ...]


def show_to_snakemake() -> str | None:
    """Sets the dates of outputs by DVC's status, unless another engine is at work.

    Returns:
        The text of dvc.lock that the dates now reflect, for `require_shown`; None if they were not set.

    Raises:
        StateError: `dvc status` fails, for instance on an error in dvc.yaml; or outputs are hard links.
        CacheError: a damaged entry of DVC's cache can neither be repaired nor removed.
    """
    if "hardlink" in (dvc_cache.settings().get("type") or ()):
        raise StateError(
            "DVC's cache.type: expected reflink, copy or symlink, got hardlink, with which equal outputs of several "
            "stages have one date; `dvc config --unset cache.type` and `dvc checkout --relink` end it"
        )
    try:
        workspace.check_idle()
    except workspace.WorkspaceBusyError as error:
        # A dry run or a graph may go on; a real run stops when it claims the workspace.
        print(f"The dates of outputs are left as they are: {error}", file=sys.stderr)
        return None
    changed, lock = judged()
    project(changed, recorded_stages(lock))
    return lock


def require_shown(lock: str | None) -> None:
    """Checks that dvc.lock is still the one that the dates of outputs reflect.

    Raises:
        StateError: another engine has worked since, so the plan is outdated.
    """
    if lock != read_lock():
        raise StateError(
            "another Snakemake or `dvc repro` has worked in this checkout while this one planned: start it again"
        )


def judged() -> tuple[dict[str, list[Path]], str]:
    """The result of `status` after repairing the cache, removing leftovers, and updating the stage `code`.

    Raises:
        StateError, CacheError: as in `show_to_snakemake`, or the code has a syntax error.
    """
    changed, lock = status()
    mended, taken_out = dvc_cache.mend(), leftovers.take_out()
    if edited := graph.CODE in changed:
        command = [sys.executable, "-m", "dvc", "--wait-for-lock", "repro", "--quiet", "--single-item", graph.CODE]
        process = subprocess.run(command, capture_output=True, text=True)
        if process.returncode != 0:
            said = (process.stdout + process.stderr).strip()
            raise StateError(f"the stage {graph.CODE} failed, so nothing can be planned:\n{said}")
    return status() if mended or taken_out or edited else (changed, lock)


def status() -> tuple[dict[str, list[Path]], str]:
    """The changed stages by name, each with its outputs that differ from dvc.lock, and the text of that dvc.lock.

    Raises:
        StateError: as in `changes`.
    """
    changed, lock = changes()
    return {stage: changed_outputs(entries) for stage, entries in changed.items()}, lock


def changes() -> tuple[dict[str, list[Any]], str]:
    """The entry of each changed stage in `dvc status`, and the text of the dvc.lock that it was compared with.

    Moves damaged state files of DVC aside.

    Raises:
        StateError: DVC stops with another error, or its files stay busy.
    """
    deadline = time.monotonic() + BUSY_SECONDS
    mended: set[Path] = set()
    while True:
        lock = read_lock()  # before DVC reads it, so that `require_shown` detects a change in between
        try:
            with Repo() as repo:
                changed = repo.status(targets=["dvc.yaml"])  # without files that the user tracks by `dvc add`
            return {stage: entries for stage, entries in changed.items() if ALWAYS not in entries}, lock
        except Exception as error:  # of DVC or of what it uses
            said = "\n".join(told(error))
        if damage := DAMAGED.search(said):
            path = Path(".dvc/tmp/rwlock") if damage[1] else dvc_cache.LOCK
            if path not in mended:
                mended.add(path)
                set_aside(path)
                continue
        if "is busy" not in said and "Unable to acquire lock" not in said:
            raise StateError(f"`dvc status` failed, so nothing can be planned:\n{said}")
        if time.monotonic() > deadline:
            raise StateError(f"a DVC process is at work in this checkout; wait for it to end:\n{said}")
        time.sleep(0.5)


def told(error: BaseException | None) -> Iterator[str]:
    """The message of an error, and those of its causes."""
    while error is not None:
        yield str(error)
        error = error.__cause__


def changed_outputs(entries: Sequence[str | Mapping[str, Mapping[str, str]]]) -> list[Path]:
    """The changed outputs in the entries of one stage."""
    return [Path(path) for entry in entries if not isinstance(entry, str) for path in entry.get("changed outs", {})]


def set_aside(path: Path) -> None:
    """Moves a damaged state file of DVC into .dvc/tmp; results then come from DVC's run cache, without recomputing."""
    names = (f"{path.name}.damaged{number or ''}" for number in count())
    aside = next(place for name in names if not (place := Path(".dvc/tmp") / name).exists())
    if CONFLICT.search(path.read_text(errors="replace")):
        why = "holds a merge conflict; both sides are in"
    else:
        why = "was damaged, as a killed DVC or a power cut can leave it; moved to"
    os.replace(path, aside)
    print(f"{path} {why} {aside}, and results come from DVC's cache or are made again", file=sys.stderr)


def read_lock() -> str:
    """The text of dvc.lock; empty if there is no such file."""
    return dvc_cache.LOCK.read_text(errors="replace") if dvc_cache.LOCK.exists() else ""


def recorded_stages(text: str) -> dict[str, Stage]:
    """The stages in the text of a dvc.lock."""
    lock = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}
    return {
        name: Stage(
            inputs=(*(Path(dep["path"]) for dep in stage.get("deps", ())), *map(Path, stage.get("params", ()))),
            outputs=tuple(Path(out["path"]) for out in stage.get("outs", ())),
        )
        for name, stage in (lock.get("stages") or {}).items()
    }


def project(changed: Mapping[str, Sequence[Path]], stages: Mapping[str, Stage]) -> None:
    """Dates the outputs of `changed` stages 1970, and those of all others no older than their newest input.

    If DVC links outputs to its cache, the link itself is dated: its target may belong to other outputs or users too.
    """
    outdated = {path for paths in changed.values() for path in paths}
    outdated.update(path for name in changed if name in stages for path in stages[name].outputs)
    for output in outdated:
        for file in files(output):
            os.utime(file, (LONG_AGO, LONG_AGO), follow_symlinks=False)
    listing = cache(files)  # many stages read the same folders
    for name in in_order(stages):
        stage = stages[name]
        found = (file for path in stage.inputs for file in listing(path))
        newest = max((max(file.stat().st_mtime_ns, file.lstat().st_mtime_ns) for file in found), default=0)
        for output in set(stage.outputs) - outdated:
            for file in files(output):
                if file.lstat().st_mtime_ns < newest:
                    os.utime(file, ns=(newest, newest), follow_symlinks=False)


def in_order(stages: Mapping[str, Stage]) -> Iterator[str]:
    """Names of the stages in topological order, producers before consumers."""
    producer = {output: name for name, stage in stages.items() for output in stage.outputs}
    below: defaultdict[Path, set[str]] = defaultdict(set)
    for output, name in producer.items():
        for path in (output, *output.parents):
            below[path].add(name)
    graph = {
        name: {
            source
            for path in stage.inputs
            for source in (*below.get(path, ()), *(producer[parent] for parent in path.parents if parent in producer))
            if source != name
        }
        for name, stage in stages.items()
    }
    return iter(TopologicalSorter(graph).static_order())


def files(path: Path) -> list[Path]:
    """The files that represent a path: itself, or for a folder its manifest, or else all files in it."""
    if not path.is_dir():
        return [path] if path.exists() else []
    manifest = path / "manifest.json"
    if manifest.exists():
        return [manifest]
    return [file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts]


def main() -> int:
    """Repairs state files, sets dates, and prints the changed stages."""
    try:
        workspace.check_idle()
        changed, lock = judged()
        project(changed, recorded_stages(lock))
    except (StateError, dvc_cache.CacheError, workspace.WorkspaceError) as error:
        print(error, file=sys.stderr)
        return 1
    print(
        "\n".join(["changed stages:", *(f"  {name}" for name in changed)]) if changed else "every stage is up to date"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
