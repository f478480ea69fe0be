"""The progress of Snakemake: a line for each job that ends, with the numbers of jobs done, running and left, and time.

Snakemake's own messages, a block for each job that begins, still go to its log file in .snakemake/log.
`python -m workflows.live` prints how long the jobs of each pipeline took when they last ran, next to the budget: the
`core_minutes` of its section in params.yaml, on one core without other work.
"""

import contextlib
import functools
import json
import logging
import math
import os
import re
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

from snakemake_interface_logger_plugins.common import LogEvent

from workflows.engines import graph, parameters

TIMES = Path(".snakemake/times.json")
"""File with the seconds that each job took when it last ran."""
RESTORED = re.compile(r"^Stage '.*' (?:is cached - skipping run|didn't change, skipping)", re.MULTILINE)
"""In the log of a job whose outputs DVC restored."""
Jobs = Mapping[str, Collection[str]]
"""Names of jobs, by pipeline."""
ACCOUNT = (LogEvent.JOB_INFO, LogEvent.JOB_STARTED, LogEvent.JOB_FINISHED, LogEvent.JOB_ERROR, LogEvent.PROGRESS)
TAIL = 8
"""Number of lines shown of a failed job's log."""


class Live(logging.Handler):
    """Shows the progress by the events of Snakemake's logger.

    Args:
        jobs: names of all jobs that will run, as from `named`, each with its share of what all may use at a time: 0.5
            is half of the cores, or of the memory.
        out: stream to print to.
    """

    def __init__(self, jobs: Mapping[str, float], out: TextIO = sys.stderr) -> None:
        super().__init__(logging.INFO)
        self.jobs, self.left, self.total, self.out = jobs, dict(jobs), len(jobs), out
        self.running: dict[int, tuple[str, float, list[str]]] = {}
        self.failed: list[str] = []
        self.times = last_times()

    def emit(self, record: logging.LogRecord) -> None:
        """Handles an event of a job, and ignores other records."""
        event, told = getattr(record, "event", None), record.__dict__
        if event == LogEvent.JOB_INFO:
            name = named(told["rule_name"], told["wildcards"])
            if name in self.failed:  # the profile of a cluster retries failed jobs
                self.failed.remove(name)
                self.left[name] = self.jobs[name]
            self.running[told["jobid"]] = (name, time.monotonic(), list(told["log"] or ()))
        elif event == LogEvent.JOB_FINISHED and told["job_id"] in self.running:
            name, began, logs = self.running.pop(told["job_id"])
            if self.left.pop(name, None) is not None:
                seconds = round(time.monotonic() - began, 1)
                if any(RESTORED.search(text) for _, text in said(logs)):
                    self.say(f"{name} not computed, DVC had its outputs")
                else:
                    self.times[name] = seconds
                    remember(self.times)
                    self.say(f"{name} took {duration(seconds)}")
        elif event == LogEvent.JOB_ERROR and told["jobid"] in self.running:
            name, _, logs = self.running.pop(told["jobid"])
            self.left.pop(name, None)
            self.failed.append(name)
            self.say(f"{name} FAILED", *ends(logs))

    def say(self, what: str, *more: str) -> None:
        """Prints a line with the state of all jobs, and further lines."""
        done = self.total - len(self.left) - len(self.failed)
        state = [f"{done} of {self.total} done", f"{len(self.running)} running"]
        if waiting := len(self.left) - sum(name in self.left for name, *_ in self.running.values()):
            state.append(f"{waiting} waiting")
        if self.failed:
            state.append(f"{len(self.failed)} failed")
        if self.left and (seconds := self.remaining()) is not None:
            state.append(f"about {duration(seconds)} left")
        print(f"[{time.strftime('%H:%M:%S')}] {what}: {', '.join(state)}", *more, sep="\n", file=self.out, flush=True)

    def remaining(self) -> float | None:
        """Seconds until all is done if jobs take as long as last time, without gaps; None if no time is known.

        A job that never ran is taken to need the mean of the others of its rule, or of all.
        """
        if not self.times:
            return None
        now, passed = time.monotonic(), {}
        for name, began, _ in self.running.values():
            passed[name] = now - began
        work = [(max(0.0, self.expected(name) - passed.get(name, 0.0)), share) for name, share in self.left.items()]
        return max(sum(seconds * share for seconds, share in work), *(seconds for seconds, _ in work))

    def expected(self, name: str) -> float:
        """Expected seconds of a job."""
        if name in self.times:
            return self.times[name]
        alike = [seconds for other, seconds in self.times.items() if other.split()[0] == name.split()[0]]
        known = alike or list(self.times.values())
        return sum(known) / len(known)

    def end(self, *, good: bool, every: Jobs | None = None, budgets: Mapping[str, float] | None = None) -> None:
        """Prints what failed, or where the results are.

        Args:
            good: whether all jobs are done.
            every: all jobs of the graph, including those that are up to date.
            budgets: minutes for each pipeline.
        """
        if good:
            lines = ["done: results are below results, runs are shown by `make ui`"]
            for pipeline, jobs in (every or {}).items():
                minutes = sum(self.times.get(name, 0.0) for name in jobs) / 60
                most = (budgets or {}).get(pipeline, math.inf)
                if minutes > most and not self.jobs.keys().isdisjoint(jobs):
                    lines.append(
                        f"the jobs of {pipeline} took {minutes:.0f} minutes of a core in all; params.yaml has a budget "
                        f"of {most:g}, for a machine without other work"
                    )
        else:
            lines = [f"{len(self.failed)} failed: {', '.join(self.failed) or 'none of the jobs'}"]
            lines.append("what is done stays done: the same command goes on once that is mended")
        print(*lines, sep="\n", file=self.out, flush=True)


def follow(logger: logging.Logger, jobs: Iterable[Any], scheduler: Any) -> Live:
    """Replaces Snakemake's messages on jobs by the lines of a `Live`.

    Args:
        logger: Snakemake's logger.
        jobs: Snakemake's jobs that will run.
        scheduler: Snakemake's scheduler, whose resources they share.
    """
    limits = {name: limit for name, limit in scheduler.global_resources.items() if limit}

    def share(job: Any) -> float:
        return max(job.scheduler_resources.get(name, 0) / limit for name, limit in limits.items())

    view = Live({named(job.rule.name, job.wildcards_dict): share(job) for job in jobs if job.rule.log})
    for handler in logger.handlers:
        if handler.name == "DefaultStreamHandler":
            handler.addFilter(lambda record: not shown_here(record))
    logger.addHandler(view)
    return view


def wake_for_news_alone(scheduler: Any) -> None:
    """Lets Snakemake look for new work only when a job ends.

    With its default limit of 100 jobs a second it looks once a second more for each job that has ended
    (snakemake/snakemake#3804), which takes a sixth of a core after 70 jobs of the profile mini.
    """
    limit = scheduler.job_rate_limiter
    if limit is not None and (limit.max_jobs, limit.timespan) == (100, 1):
        scheduler.job_rate_limiter = None


def shown_here(record: logging.LogRecord) -> bool:
    """Whether `Live` shows this record, or nobody needs it."""
    return getattr(record, "event", None) in ACCOUNT or record.getMessage().startswith("Select jobs to execute")


def named(rule: str, wildcards: Mapping[str, str] | None) -> str:
    """The readable name of a job: `flow_train deq-0`."""
    return " ".join((rule, *(wildcards or {}).values()))


def last_times() -> dict[str, float]:
    """Seconds of each job when it last ran; empty if nothing ran or the file is damaged, since they are only a help."""
    try:
        return {str(name): float(seconds) for name, seconds in json.loads(TIMES.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def remember(times: Mapping[str, float]) -> None:
    """Writes the file that `last_times` reads."""
    beside = TIMES.with_suffix(f".{os.getpid()}")
    beside.write_text(json.dumps(times, indent=1))
    os.replace(beside, TIMES)


def duration(seconds: float) -> str:
    """A duration in seconds below two minutes, in minutes below two hours, or in hours."""
    for size, name, most in ((1, "s", 120), (60, "min", 7200)):
        if seconds < most:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds / 3600:.1f} h"


def ends(logs: Iterable[str]) -> list[str]:
    """The last lines of log files, indented."""
    found = []
    for log, text in said(logs):
        found += [f"    {log}:", *(f"      {line}" for line in text.splitlines()[-TAIL:])]
    return found


def said(logs: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The log files that exist, with their texts."""
    for log in logs:
        with contextlib.suppress(OSError):
            yield log, Path(log).read_text(errors="replace")


def by_name(rules: Iterable[graph.Rule]) -> dict[str, graph.Job]:
    """All jobs of a graph by their readable names."""
    return {named(rule.name, {"run": run} if run else {}): job for rule in rules for run, job in rule.jobs.items()}


def jobs_of(rules: Iterable[graph.Rule]) -> dict[str, list[str]]:
    """Names of all jobs of a graph, by pipeline."""
    found: dict[str, list[str]] = {}
    for name in by_name(rules):
        found.setdefault(name.partition("_")[0], []).append(name)
    return found


def budgets_of(profile: Mapping[str, Any]) -> dict[str, float]:
    """The budget of each pipeline that has one, in minutes of one core."""
    return {name: each["core_minutes"] for name, each in profile.items() if each.get("core_minutes") is not None}


def by_pipeline(times: Mapping[str, float], every: Jobs) -> dict[str, dict[str, float]]:
    """The known times of the jobs of a graph, by pipeline in alphabetical order."""
    found = {name: {job: times[job] for job in every[name] if job in times} for name in sorted(every)}
    return {name: of_jobs for name, of_jobs in found.items() if of_jobs}


def longest_chains(rules: Iterable[graph.Rule], times: Mapping[str, float]) -> dict[str, float]:
    """Seconds of the longest chain of jobs that wait for each other, by pipeline: its time with cores for all jobs."""
    jobs = by_name(rules)
    maker = {path: name for name, job in jobs.items() for path in job.outputs}

    @functools.cache
    def end(name: str) -> float:
        before = {maker[path] for path in jobs[name].inputs if path in maker}
        return times.get(name, 0.0) + max(map(end, before), default=0.0)

    found: dict[str, float] = {}
    for name in jobs:
        pipeline = name.partition("_")[0]
        found[pipeline] = max(found.get(pipeline, 0.0), end(name))
    return found


def table(pipelines: Mapping[str, Mapping[str, float]], budgets: Mapping[str, float]) -> str:
    """The table of pipelines: number of jobs, sum of their times, budget, and longest job."""
    rows = [(name, times, budgets.get(name)) for name, times in pipelines.items()]
    every = {name: seconds for _, times, _ in rows for name, seconds in times.items()}
    rows.append(("all", every, sum(minutes for _, _, minutes in rows if minutes is not None) or None))
    lines = ["| pipeline | jobs | all | budget | longest | |", "| --- | ---: | ---: | ---: | ---: | --- |"]
    for name, times, minutes in rows:
        longest = max(times, key=times.__getitem__)
        budget = "" if minutes is None else duration(60 * minutes)
        whole, most = duration(sum(times.values())), duration(times[longest])
        lines.append(f"| {name} | {len(times)} | {whole} | {budget} | {most} | {longest} |")
    return "\n".join(lines)


def main() -> None:
    """Prints the table for the jobs of the current graph that ran here."""
    profile = parameters.load()
    found = by_pipeline(last_times(), jobs_of(graph.rules(profile)))
    print(table(found, budgets_of(profile)) if found else f"{TIMES}: nothing has run here yet")


if __name__ == "__main__":
    main()
