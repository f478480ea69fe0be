"""The graph of dvc.yaml as Snakemake's rules: one rule for each stage, or for all stages of a matrix.

Only dvc.yaml defines the commands, code, parameters and files of a stage; DVC itself resolves it. The stages of a
matrix write the same files into different folders, and the name of that folder is the rule's wildcard.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from dvc.parsing import DataResolver
from dvc.repo import Repo
from dvc.utils.serialize import load_yaml

from workflows.engines.resources import Resources, asked

CODE = "code"
"""The stage that records the code behind each command; it runs before Snakemake plans, which depends on its outputs."""
PARAMS = "params.yaml"


class GraphError(ValueError):
    """A stage of dvc.yaml cannot be made a rule."""


@dataclass(frozen=True)
class Job:
    """One stage: the files it reads from other stages, its outputs, and the resources it asks for."""

    stage: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    asks: Resources = field(default_factory=Resources)


@dataclass(frozen=True)
class Rule:
    """One stage of dvc.yaml, or all stages of a matrix."""

    name: str
    jobs: Mapping[str, Job]
    """Jobs by the name of the folder in which their outputs differ, the wildcard `run`; by "" without a matrix."""
    depth: int = 0
    """Depth of that folder in the paths of the outputs."""

    @property
    def pipeline(self) -> str:
        """The pipeline: the first word of the name."""
        return self.name.partition("_")[0]

    @property
    def outputs(self) -> list[str]:
        """Output paths, with the wildcard `{run}` where jobs differ."""
        return self.files("{run}")

    @property
    def log(self) -> str:
        """Path of the log of its jobs."""
        return f"results/logs/{self.name}{'' if '' in self.jobs else '/{run}'}.log"

    @property
    def runs(self) -> str:
        """Pattern of the wildcard: the names of the jobs and no others, so that no two rules match one file."""
        return "|".join(map(re.escape, self.jobs))

    def job(self, wildcards: Any) -> Job:
        """The job with these wildcards."""
        return self.jobs[getattr(wildcards, "run", "")]

    def files(self, run: str) -> list[str]:
        """Output paths of the job `run`."""
        places = [PurePosixPath(path).parts for path in next(iter(self.jobs.values())).outputs]
        if "" in self.jobs:
            return ["/".join(place) for place in places]
        return ["/".join([*place[: self.depth], run, *place[self.depth + 1 :]]) for place in places]


def rules(profile: Mapping[str, Any]) -> list[Rule]:
    """The rules for dvc.yaml with the values of params.yaml, except for `code` and stages that run each time.

    Args:
        profile: params.yaml, for the resources that stages ask for.

    Raises:
        GraphError: the outputs of a matrix do not differ in the name of one folder.
    """
    found = {name: stage for name, stage in stages().items() if name != CODE and not stage.get("always_changed")}
    written = {name: tuple(map(file, outputs(stage))) for name, stage in found.items()}
    below: defaultdict[str, list[str]] = defaultdict(list)
    for paths in written.values():
        for path in paths:
            for place in (path, *map(str, PurePosixPath(path).parents)):
                below[place].append(path)
    groups: dict[str, list[Job]] = {}
    for name, stage in found.items():
        read = dict.fromkeys(path for dep in stage.get("deps", ()) for path in written_at(dep, below))
        job = Job(
            stage=name,
            inputs=tuple(read) or (PARAMS,),  # a rule without inputs is never out of date
            outputs=written[name],
            asks=asked(profile, stage.get("params", ()), stage.get("meta", {})),
        )
        groups.setdefault(name.partition("@")[0], []).append(job)
    return [rule(name, jobs) for name, jobs in groups.items()]


def stages() -> dict[str, dict[str, Any]]:
    """The stages of dvc.yaml by name, as DVC resolves them with the current parameters."""
    resolved: Any = DataResolver(Repo(), ".", load_yaml("dvc.yaml")).resolve()  # DVC types it too loosely
    return resolved["stages"]


def outputs(stage: Mapping[str, Any]) -> list[str]:
    """Paths of a stage's outputs, metrics and plots."""
    entries = [*stage.get("outs", ()), *stage.get("metrics", ()), *stage.get("plots", ())]
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def final(found: Sequence[Rule], pipeline: str | None = None) -> list[str]:
    """Outputs that no stage reads, of one pipeline or of all: the reports."""
    read = {path for rule in found for job in rule.jobs.values() for path in job.inputs}
    return [
        path
        for rule in found
        for job in rule.jobs.values()
        if pipeline in (None, rule.pipeline) and not read.intersection(job.outputs)
        for path in job.outputs
    ]


def caption(output: str) -> PurePosixPath:
    """The file of a figure's caption, if it has one: workflows/report/flow_table_epe.rst for
    results/flow/report/table/epe.svg.
    """
    _, pipeline, *folders, name = PurePosixPath(output).with_suffix("").parts
    named = [each for each in (pipeline, *folders, name) if each not in ("figures", "report")]
    return PurePosixPath("workflows/report", f"{'_'.join(named)}.rst")


def rule(name: str, jobs: Sequence[Job]) -> Rule:
    """The rule for the jobs of a stage or matrix."""
    places = [PurePosixPath(job.outputs[0]).parts for job in jobs]
    different = [depth for depth, parts in enumerate(zip(*places, strict=False)) if len(set(parts)) > 1]
    if len(jobs) == 1:  # a stage, or a matrix of one, whose folder has the name of its stage
        key = jobs[0].stage.partition("@")[2]
        different = [depth for depth, part in enumerate(places[0]) if part == key][-1:]
        if not different:
            return Rule(name, {"": jobs[0]})
    runs = {place[different[0]]: job for place, job in zip(places, jobs, strict=True)} if different else {}
    made = Rule(name, runs, *different[:1])
    if len(runs) != len(jobs) or any(made.files(run) != list(job.outputs) for run, job in runs.items()):
        raise GraphError(
            f"dvc.yaml: {name}: the outputs of its stages must differ in one folder's name and nothing else"
        )
    return made


def file(path: str) -> str:
    """The file that represents an output: itself, or the manifest of a folder."""
    return path if PurePosixPath(path).suffix else f"{path}/manifest.json"


def written_at(dependency: str, below: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """The files behind a dependency: itself, those in it if it is a folder, and the manifest of a folder it is in."""
    place = PurePosixPath(dependency)  # drops a . that stands for a set in the folder of all sets
    yield from below.get(str(place), ())
    for folder in place.parents:
        yield from below.get(f"{folder}/manifest.json", ())
