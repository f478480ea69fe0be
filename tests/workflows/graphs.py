"""The resolved graph of each engine, and what differs between them."""

import json
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tests.workflows.checkout import run

RULE = re.compile(r"^rule (?P<rule>\w+):\n(?P<body>(?:^ .*\n)+)(?P<shell>^Shell command: .*\n)?", re.MULTILINE)
STAGE = re.compile(r"dvc --wait-for-lock repro --single-item (\S+) > ")
DVC_STAGES = """
import json
from dvc.dependency.param import ParamsDependency
from dvc.repo import Repo

def paths(items):
    return [item.def_path for item in items if not isinstance(item, ParamsDependency)]

results = [stage for stage in Repo().index.stages if not stage.always_changed]
stages = {stage.addressing: (stage.cmd, paths(stage.deps), paths(stage.outs)) for stage in results}
print(json.dumps(stages))
"""


@dataclass(frozen=True)
class Job:
    """One job of Snakemake, or one stage of DVC, by the files it reads and writes."""

    command: str
    inputs: frozenset[str]
    outputs: frozenset[str]


def snakemake_graph(folder: Path) -> dict[str, Job]:
    """The jobs of `snakemake all`, by the stage that their shell command names."""
    said = run(folder, "snakemake", "--dry-run", "--forceall", "--printshellcmds", "all").stdout
    jobs = {}
    for match in RULE.finditer(said):
        if match["rule"] == "all":
            continue
        command = match["shell"] or ""
        named = STAGE.search(command)
        assert named, f"rule {match['rule']} does not run a stage of DVC: {command!r}\n{said}"
        jobs[named[1]] = Job(command, listed(match["body"], "input"), listed(match["body"], "output"))
    return jobs


def listed(body: str, directive: str) -> frozenset[str]:
    """The files behind `input:` or `output:` in what a dry run prints of a job."""
    found = re.search(rf"^ +{directive}: (.*)$", body, re.MULTILINE)
    return frozenset(found[1].split(", ")) if found else frozenset()


def dvc_graph(folder: Path) -> dict[str, Job]:
    """The stages of dvc.yaml, by name; parameters are no input here, and what runs each time is no result."""
    stages = json.loads(run(folder, sys.executable, "-W", "ignore", "-c", DVC_STAGES).stdout.splitlines()[-1])
    return {name: Job(command, frozenset(deps), frozenset(outs)) for name, (command, deps, outs) in stages.items()}


def differences(snakemake: Mapping[str, Job], dvc: Mapping[str, Job]) -> list[str]:
    """Where the two graphs disagree, one sentence each.

    A folder that DVC writes stands for its manifest.json in Snakemake, and a folder that DVC reads for the files that
    Snakemake reads below it. Code and parameters are DVC's alone.
    """
    jobs, stages = Writers(snakemake), Writers(dvc)
    return [
        *(f"{name}: a stage that no rule runs" for name in sorted(dvc.keys() - snakemake.keys())),
        *(f"{name}: a rule runs it, but there is no such stage" for name in sorted(snakemake.keys() - dvc.keys())),
        *(
            f"{name}: {sentence}"
            for name in sorted(snakemake.keys() & dvc.keys())
            for sentence in job_differences(snakemake[name], dvc[name], jobs, stages)
        ),
    ]


def job_differences(job: Job, stage: Job, jobs: "Writers", stages: "Writers") -> Iterator[str]:
    """Where a rule and its stage disagree."""
    outputs = {path if Path(path).suffix else f"{path}/manifest.json" for path in stage.outputs}
    if job.outputs != outputs:
        yield f"outputs only in Snakemake {sorted(job.outputs - outputs)}, only in DVC {sorted(outputs - job.outputs)}"
    data = {path for path in stage.inputs if not path.startswith(("packages/", "workflows/"))}
    for path in sorted(job.inputs - {"params.yaml"}):
        if not any(Path(path).is_relative_to(dependency) for dependency in data):
            yield f"Snakemake reads {path}, which DVC does not list"
    for path in sorted(path for path in data if Path(path).suffix):
        if path not in job.inputs:
            yield f"DVC depends on {path}, which Snakemake does not list"
    ours, theirs = jobs.before(job), stages.before(stage)
    if ours != theirs:
        yield f"comes after {sorted(ours - theirs)} in Snakemake alone, after {sorted(theirs - ours)} in DVC alone"


class Writers:
    """Which jobs of a graph write what a job reads."""

    def __init__(self, graph: Mapping[str, Job]) -> None:
        self._at: defaultdict[str, set[str]] = defaultdict(set)
        self._below: defaultdict[str, set[str]] = defaultdict(set)
        for name, job in graph.items():
            for output in job.outputs:
                self._at[output].add(name)
                for folder in folders_of(output):
                    self._below[folder].add(name)

    def before(self, job: Job) -> set[str]:
        """The jobs that write what this one reads, a folder standing for all that is written below it."""
        found = set()
        for path in job.inputs:
            found |= self._at[path] | self._below[path]
            for folder in folders_of(path):
                found |= self._at[folder]
        return found


def folders_of(path: str) -> Iterator[str]:
    """The folders that a relative path is in, innermost first."""
    return (parent.as_posix() for parent in PurePosixPath(path).parents)
