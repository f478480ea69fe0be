"""The stages of dvc.yaml as DVC resolves them."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.workflows.checkout import run

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
class Stage:
    """One stage by its command and the files it reads and writes."""

    command: str
    inputs: frozenset[str]
    outputs: frozenset[str]


def dvc_graph(folder: Path) -> dict[str, Stage]:
    """The stages of dvc.yaml, by name; parameters are no input here, and what runs each time is no result."""
    stages = json.loads(run(folder, sys.executable, "-W", "ignore", "-c", DVC_STAGES).stdout.splitlines()[-1])
    return {name: Stage(command, frozenset(deps), frozenset(outs)) for name, (command, deps, outs) in stages.items()}
