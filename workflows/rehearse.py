"""Runs all stages of the profile paper at a small size: `python -m workflows.rehearse [STAGE ...]`.

Networks, solvers, data sets and measurements are those of the profile, except for the reductions that it prints.
Snakemake runs them on the CPU, in a new folder, on miniatures of the published sets. With STAGE, a name in dvc.yaml,
only that stage and those it depends on run. The exit status is 1 if a stage fails.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence, Set
from contextlib import chdir
from pathlib import Path

from dvc.repo import Repo
from ruamel.yaml.comments import CommentedMap

from deq_core.experiment.config.errors import meant
from workflows.engines import commands, graph, parameters
from workflows.engines.resources import MEMORY
from workflows.paper import miniatures
from workflows.paper.reductions import REDUCED, reduced
from workflows.profile import profile, text
from workflows.publication import runs

ROOT = Path(__file__).parents[1]
CODE = ("Snakefile", "dvc.yaml", ".dvcignore", "packages", "profiles", "workflows")
CORES = 99
"""Number of cores that jobs may ask for; how many run at a time is limited by their memory."""
DVC = "[core]\n    no_scm = true\n    analytics = false\n[cache]\n    type = reflink,symlink\n"


def prepare(folder: Path, values: CommentedMap) -> None:
    """Makes `folder` a checkout with the code of this one, the parameters `values`, and no results."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in CODE:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, folder)
    (folder / parameters.PARAMS).write_text(text(values))
    parameters.load(folder / parameters.PARAMS)
    Repo.init(str(folder), no_scm=True).close()
    (folder / ".dvc/config").write_text(DVC)


def files(rules: Sequence[graph.Rule], wanted: Set[str]) -> list[str]:
    """An output of each wanted stage, by its full name or that of its matrix; empty if none is wanted.

    Raises:
        commands.StageError: there is no such stage.
    """
    stages = [({rule.name, job.stage}, job) for rule in rules for job in rule.jobs.values()]
    known = list(dict.fromkeys(name for names, _ in stages for name in sorted(names)))
    if unknown := sorted(wanted - set(known)):
        named = ", ".join(f"{name}{meant(name, known)}" for name in unknown)
        raise commands.StageError(f"dvc.yaml has no stage {named} in the profile paper")
    return [job.outputs[0] for names, job in stages if names & wanted]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the rehearsal; returns 1 if a stage fails, 0 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m workflows.rehearse", description=str(__doc__).partition("\n")[2])
    parser.add_argument("stages", nargs="*", metavar="STAGE", help="stages of dvc.yaml; without any, all")
    parser.add_argument("--jobs", type=int, default=2, help="stages at a time (%(default)s)")
    parser.add_argument("--folder", type=Path, help="a new folder, which is kept; by default a temporary one")
    options = parser.parse_args(arguments)
    if options.folder is not None and options.folder.exists():
        parser.error(f"--folder {options.folder}: it exists; name a new one")
    folder = Path(tempfile.mkdtemp(prefix="rehearsal-")) if options.folder is None else options.folder.absolute()
    try:
        return rehearse(folder, set(options.stages), options.jobs)
    except commands.StageError as error:
        options.folder = None  # nothing has run in it
        parser.error(str(error))
    finally:
        if options.folder is None:
            shutil.rmtree(folder)


def rehearse(folder: Path, wanted: Set[str], jobs: int) -> int:
    """Runs stages in a new folder, and prints the time and memory of each; returns 1 if one fails, 0 otherwise.

    Raises:
        commands.StageError: there is no such stage.
    """
    prepare(folder, reduced(profile("paper")))
    with chdir(folder):
        targets = files(graph.rules(parameters.load()), wanted)
        miniatures.write(Path("datasets"))
        print("Of the profile paper, this is smaller:", *map(str, REDUCED), "", sep="\n", flush=True)
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        memory = f"mem_mb={jobs * MEMORY['cpu']}"
        command = ["snakemake", "--profile", "none", "--resources", memory, "--cores", str(CORES), *targets]
        status = subprocess.run([sys.executable, "-m", *command]).returncode
        for one in runs.timings(runs.behind(Path("results")).values()):
            print(f"{one.stage:<28} {one.jobs:3} jobs {one.cpu:8.1f} s of cores, {one.memory:6.0f} MB at most")
    return int(status != 0)


if __name__ == "__main__":
    sys.exit(main())
