"""The graph of dvc.yaml as Snakemake's rules need it: one rule a stage, or one for all stages of a matrix.

dvc.yaml is the only place where commands, code, parameters and files of a stage are written; DVC itself resolves it.
The stages of a matrix write the same files into folders of their own, and that folder's name is the rule's wildcard.
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

from workflows.resources import Resources, asked

CODE = "code"
"""The stage that says what code is behind each command, before Snakemake plans: no plan knows what it will say."""
PARAMS = "params.yaml"


class GraphError(ValueError):
    """dvc.yaml holds something that cannot be a rule."""


@dataclass(frozen=True)
class Job:
    """One stage: what it reads that other stages write, what it writes, and what it asks of the machine."""

    stage: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    asks: Resources = field(default_factory=Resources)


@dataclass(frozen=True)
class Rule:
    """One stage of dvc.yaml, or all of its matrix."""

    name: str
    jobs: Mapping[str, Job]
    """By the name of the folder in which their outputs differ, the wildcard `run`; by "" where there is none."""
    depth: int = 0
    """Of that folder in the paths of the outputs."""

    @property
    def pipeline(self) -> str:
        """The first word of the name."""
        return self.name.partition("_")[0]

    @property
    def outputs(self) -> list[str]:
        """With the wildcard `{run}` where jobs differ."""
        return self.files("{run}")

    @property
    def log(self) -> str:
        """Where the rule's jobs say what they do."""
        return f"results/logs/{self.name}{'' if '' in self.jobs else '/{run}'}.log"

    @property
    def runs(self) -> str:
        """What the wildcard matches: the names of the jobs and no other, so that no two rules claim one file."""
        return "|".join(map(re.escape, self.jobs))

    def job(self, wildcards: Any) -> Job:
        """The one that Snakemake means."""
        return self.jobs[getattr(wildcards, "run", "")]

    def files(self, run: str) -> list[str]:
        """The outputs of the run of that name."""
        places = [PurePosixPath(path).parts for path in next(iter(self.jobs.values())).outputs]
        if "" in self.jobs:
            return ["/".join(place) for place in places]
        return ["/".join([*place[: self.depth], run, *place[self.depth + 1 :]]) for place in places]


def rules(profile: Mapping[str, Any]) -> list[Rule]:
    """A rule for every stage of dvc.yaml but for `code` and those that run each time, with the numbers of params.yaml.

    Args:
        profile: params.yaml, for the resources that a stage's own parameters name.

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
            inputs=tuple(read) or (PARAMS,),  # a rule without inputs would never be out of date
            outputs=written[name],
            asks=asked(profile, stage.get("params", ()), stage.get("meta", {})),
        )
        groups.setdefault(name.partition("@")[0], []).append(job)
    return [rule(name, jobs) for name, jobs in groups.items()]


def stages() -> dict[str, dict[str, Any]]:
    """The stages of dvc.yaml by name, as DVC resolves them with the present parameters."""
    resolved: Any = DataResolver(Repo(), ".", load_yaml("dvc.yaml")).resolve()  # typed too loosely there
    return resolved["stages"]


def outputs(stage: Mapping[str, Any]) -> list[str]:
    """What a stage writes: its outputs, metrics and plots, some of them with options."""
    entries = [*stage.get("outs", ()), *stage.get("metrics", ()), *stage.get("plots", ())]
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def final(found: Sequence[Rule], pipeline: str | None = None) -> list[str]:
    """What is written and read by no stage, of one pipeline or of all: the reports."""
    read = {path for rule in found for job in rule.jobs.values() for path in job.inputs}
    return [
        path
        for rule in found
        for job in rule.jobs.values()
        if pipeline in (None, rule.pipeline) and not read.intersection(job.outputs)
        for path in job.outputs
    ]


def caption(output: str) -> PurePosixPath:
    """Where the caption of an output is, if it is a figure that has one: of results/flow/report/table/epe.svg in
    workflows/report/flow_table_epe.rst.
    """
    _, pipeline, *folders, name = PurePosixPath(output).with_suffix("").parts
    named = [each for each in (pipeline, *folders, name) if each not in ("figures", "report")]
    return PurePosixPath("workflows/report", f"{'_'.join(named)}.rst")


def rule(name: str, jobs: Sequence[Job]) -> Rule:
    """The rule of a stage or matrix."""
    places = [PurePosixPath(job.outputs[0]).parts for job in jobs]
    different = [depth for depth, parts in enumerate(zip(*places, strict=False)) if len(set(parts)) > 1]
    if len(jobs) == 1:  # of a stage, or of a matrix of one, whose folder is called as its stage is
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
    """The file that stands for an output: itself, or the manifest of a folder."""
    return path if PurePosixPath(path).suffix else f"{path}/manifest.json"


def written_at(dependency: str, below: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """The files that a stage depends on: named, in a folder it names, or for a folder in which it names something."""
    place = PurePosixPath(dependency)  # without the . of a set that is in the folder of all
    yield from below.get(str(place), ())
    for folder in place.parents:
        yield from below.get(f"{folder}/manifest.json", ())
