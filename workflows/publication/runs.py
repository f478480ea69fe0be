"""The tracked runs that wrote the current results: their pages, times and machines."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deq_core.experiment.tracking import provenance
from deq_core.experiment.tracking.store.connection import connect, is_remote, tracking_uri
from deq_core.experiment.tracking.store.entries import CPU, MEMORY
from deq_core.experiment.tracking.store.keys import key_of
from deq_core.experiment.tracking.store.sqlite_store import one_line, sqlite_path, without_password

if TYPE_CHECKING:
    from mlflow.entities import Run as Tracked

UI = "http://127.0.0.1:5000"
"""Address of `make ui`, which shows the runs of a store in a file; a server shows its own."""


@dataclass(frozen=True)
class Run:
    """A tracked run."""

    name: str
    stage: str
    """Stage of dvc.yaml, or the command if no stage ran it."""
    address: str
    """URL of its page in MLflow."""
    begun: datetime
    seconds: float
    """Time from start to end, including interruptions of a training that was resumed."""
    cpu: float
    """CPU time in seconds; NaN if it was not recorded."""
    memory: float
    """Peak memory in megabytes; NaN if it was not recorded."""
    made_by: dict[str, str]
    """Commit, profile, versions, machine and engine, as far as recorded."""


@dataclass(frozen=True)
class Timing:
    """The times and memory of all jobs of a stage."""

    stage: str
    jobs: int
    seconds: float
    longest: float
    cpu: float
    memory: float


def behind(results: Path) -> dict[Path, Run]:
    """For each metrics.json in a folder, the last run that wrote its current content, if there is one.

    Raises:
        OutputError: the store cannot be read.
    """
    uri = tracking_uri()
    store = sqlite_path(uri)
    if store is not None and not store.exists():
        return {}
    shown_at = without_password(uri).rstrip("/") if is_remote(uri) else UI
    files = {path: provenance.of_files("out", [path]) for path in sorted(results.glob("**/metrics.json"))}
    wanted = [(path, key_of(tag), md5) for path, tags in files.items() for tag, md5 in tags.items()]
    found: dict[Path, Run] = {}
    with one_line(uri):
        for tracked in finished():
            tags = tracked.data.tags
            for path, key, md5 in wanted:
                if tags.get(key) == md5:
                    found[path] = run(tracked, shown_at)
    return found


def finished() -> Iterable["Tracked"]:
    """All finished runs of the store, oldest first."""
    client, token = connect(), None
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    order = ["attributes.start_time ASC"]
    while token != "":
        page = client.search_runs(
            experiments, "attributes.status = 'FINISHED'", max_results=1000, order_by=order, page_token=token
        )
        yield from page
        token = page.token or ""


def run(tracked: "Tracked", shown_at: str) -> Run:
    """A tracked run as a `Run`."""
    info, tags = tracked.info, tracked.data.tags
    commit = tags.get("mlflow.source.git.commit", "")[:10]
    versions = {key.removeprefix("version."): tags[key] for key in sorted(tags) if key.startswith("version.")}
    threads = tags.get("threads", "1")
    told = {
        "profile": tags.get("profile", ""),
        "commit": f"{commit} with changes" if commit and tags.get("git.dirty") == "true" else commit,
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "machine": f"{tags['device']}, {threads} thread{'' if threads == '1' else 's'}" if "device" in tags else "",
        "started by": tags.get("engine", ""),
    }
    return Run(
        name=info.run_name or info.run_id,
        stage=tags.get("dvc.stage", info.run_name or "").partition("@")[0],
        address=f"{shown_at}/#/experiments/{info.experiment_id}/runs/{info.run_id}",
        begun=datetime.fromtimestamp((info.start_time or 0) / 1000),
        seconds=((info.end_time or 0) - (info.start_time or 0)) / 1000,
        cpu=tracked.data.metrics.get(CPU, nan),
        memory=tracked.data.metrics.get(MEMORY, nan),
        made_by={key: value for key, value in told.items() if value},
    )


def timings(runs: Iterable[Run]) -> list[Timing]:
    """The timing of each stage, longest first."""
    stages: defaultdict[str, list[Run]] = defaultdict(list)
    for one in runs:
        stages[one.stage].append(one)
    found = [
        Timing(
            stage=stage,
            jobs=len(jobs),
            seconds=sum(one.seconds for one in jobs),
            longest=max(one.seconds for one in jobs),
            cpu=sum(one.cpu for one in jobs),
            memory=max(one.memory for one in jobs),
        )
        for stage, jobs in stages.items()
    ]
    return sorted(found, key=lambda timing: -timing.seconds)


def costs(pipelines: Mapping[str, Mapping[str, float]], runs: Iterable[Run]) -> dict[str, dict[str, Any]]:
    """The cost of the jobs of each pipeline.

    Args:
        pipelines: for each pipeline, seconds from start to end of each job by name.
        runs: the tracked runs of the jobs.

    Returns:
        For each pipeline the number of `jobs`, their total `minutes`, the name of the `longest` and its
        `longest_minutes`, the maximum `gigabytes` of a job, and `around`, the share of the time of tracked jobs that
        is not CPU time of their programs.
    """
    stages = {timing.stage: timing for timing in timings(runs)}
    found = {}
    for pipeline, jobs in pipelines.items():
        longest = max(jobs, key=jobs.__getitem__)
        known = {name: seconds for name, seconds in jobs.items() if name.split()[0] in stages}
        of_stages = [stages[stage] for stage in {name.split()[0] for name in known}]
        found[pipeline] = {
            "jobs": len(jobs),
            "minutes": sum(jobs.values()) / 60,
            "longest": longest,
            "longest_minutes": jobs[longest] / 60,
            "gigabytes": max((timing.memory for timing in of_stages), default=nan) / 1000,
            "around": 1 - sum(timing.cpu for timing in of_stages) / (sum(known.values()) or nan),
        }
    return found


def made_by(runs: Sequence[Run]) -> dict[str, str]:
    """What made the runs: values in which all agree, and otherwise each value with its number of runs."""
    if not runs:
        return {}
    found = {}
    for key in dict.fromkeys(key for one in runs for key in one.made_by):
        values = Counter(one.made_by.get(key, "not recorded") for one in runs)
        several = (f"{value} ({count} of {len(runs)} runs)" for value, count in values.most_common())
        found[key] = next(iter(values)) if len(values) == 1 else "; ".join(several)
    begun = [one.begun for one in runs]
    return {**found, "when": f"{min(begun):%Y-%m-%d %H:%M} to {max(begun):%Y-%m-%d %H:%M}"}
