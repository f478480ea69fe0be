"""The tracked runs that made what lies below results now: where each is seen, how long it took, what it ran on."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deq_core.experiment.tracking import provenance
from deq_core.experiment.tracking.connection import connect, is_remote, tracking_uri
from deq_core.experiment.tracking.entries import CPU, MEMORY
from deq_core.experiment.tracking.keys import key_of
from deq_core.experiment.tracking.sqlite_store import one_line, sqlite_path, without_password

if TYPE_CHECKING:
    from mlflow.entities import Run as Tracked

UI = "http://127.0.0.1:5000"
"""Where `make ui` shows the runs of a store in a file; a server shows its own."""


@dataclass(frozen=True)
class Run:
    """One of them."""

    name: str
    stage: str
    """Of dvc.yaml; the command where none ran it."""
    address: str
    """Of its page in MLflow."""
    begun: datetime
    seconds: float
    """From its begin to its end; of a training that was interrupted and went on, with the time between."""
    cpu: float
    """Seconds of the processors; not a number where that was not recorded, as of memory."""
    memory: float
    """The most at once, megabytes."""
    made_by: dict[str, str]
    """Commit, profile, versions, machine, engine; what was not recorded is missing."""


@dataclass(frozen=True)
class Timing:
    """Of all jobs of a stage."""

    stage: str
    jobs: int
    seconds: float
    longest: float
    cpu: float
    memory: float


def behind(results: Path) -> dict[Path, Run]:
    """The last run that wrote each metrics.json below a folder, as the file is now; there is none of some.

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
    """All runs of the store that have ended well, the oldest first."""
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
    """What is told of a run."""
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
    """By stage, the longest first."""
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
    """What the jobs of each pipeline cost.

    Args:
        pipelines: seconds from the begin to the end of each job, by its name, by pipeline.
        runs: those of the jobs that are tracked.

    Returns:
        By pipeline `jobs`, their `minutes` in all, the name of the `longest` and its minutes, `longest_minutes`, the
        most `gigabytes` of a job, and the `around`: what of the minutes of the tracked jobs is not time of their
        programs, a share.
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
    """What runs agree in, and where they differ, of how many each is."""
    if not runs:
        return {}
    found = {}
    for key in dict.fromkeys(key for one in runs for key in one.made_by):
        values = Counter(one.made_by.get(key, "not recorded") for one in runs)
        several = (f"{value} ({count} of {len(runs)} runs)" for value, count in values.most_common())
        found[key] = next(iter(values)) if len(values) == 1 else "; ".join(several)
    begun = [one.begun for one in runs]
    return {**found, "when": f"{min(begun):%Y-%m-%d %H:%M} to {max(begun):%Y-%m-%d %H:%M}"}
