"""Runs every stage of the profile paper, small: `python -m workflows.rehearse [STAGE ...]`.

Networks, solvers, data sets and measurements are those of the profile; `REDUCED` lists what is not. It runs on the CPU,
in a folder of its own, on miniatures of the published sets, without DVC and MLflow's store of the checkout. With STAGE,
names as in dvc.yaml, only these and what they read run. It ends with 1 where a stage fails.
"""

import argparse
import importlib
import multiprocessing
import os
import resource
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import chdir
from dataclasses import dataclass
from graphlib import TopologicalSorter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from dvc.repo import Repo
from ruamel.yaml.comments import CommentedMap

from deq_core.experiment.config.errors import meant
from workflows import commands, graph, miniatures, parameters
from workflows.profile import profile, text
from workflows.reductions import REDUCED, reduced
from workflows.schemas import PACKAGES
from workflows.stage import search_path

ROOT = Path(__file__).parents[1]
SERVER = multiprocessing.get_context("forkserver")
"""Imports once for all jobs."""
LINES = 15
"""Of the log of a failed stage, that are shown."""


@dataclass(frozen=True)
class Outcome:
    """How a stage went."""

    stage: str
    seconds: float = 0.0
    """Of processor cores."""
    peak: int = 0
    """Megabytes of memory of its largest process."""
    status: int | None = None
    """Of its exit; None where it was not run."""
    lacks: str = ""
    """The failed stage that it would have read."""

    def __str__(self) -> str:
        how = f"not run, it reads {self.lacks}" if self.lacks else "well" if self.status == 0 else "FAILED"
        return f"{self.stage:<48} {self.seconds:7.1f} s {self.peak:7} MB  {how}"


def prepare(folder: Path, values: CommentedMap) -> None:
    """Makes `folder` a checkout in which commands of stages run: the code of this one, its own data."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("dvc.yaml", "packages"):
        (folder / name).symlink_to(ROOT / name)
    (folder / parameters.PARAMS).write_text(text(values))
    parameters.load(folder / parameters.PARAMS)
    Repo.init(str(folder), no_scm=True).close()


def order(jobs: Mapping[str, graph.Job], wanted: Set[str]) -> dict[str, set[str]]:
    """{stage: the stages that it reads} of the stages that are wanted, by full name or that of their matrix, and of
    those that they read.

    Raises:
        commands.StageError: there is no such stage.
    """
    writers = {path: job.stage for job in jobs.values() for path in job.outputs}
    reads = {name: {writers[path] for path in job.inputs if path in writers} for name, job in jobs.items()}
    known = list(dict.fromkeys(name for stage in jobs for name in (stage.partition("@")[0], stage)))
    if unknown := sorted(wanted - set(known)):
        named = ", ".join(f"{name}{meant(name, known)}" for name in unknown)
        raise commands.StageError(f"dvc.yaml has no stage {named} in the profile paper")
    chosen: dict[str, set[str]] = {}
    pending = [stage for stage in jobs if not wanted or wanted & {stage, stage.partition("@")[0]}]
    while pending:
        stage = pending.pop()
        if stage not in chosen:
            chosen[stage] = reads[stage]
            pending += reads[stage]
    return chosen


def command(stage: str, stages: Mapping[str, Any]) -> list[str]:
    """The words of a stage's command in dvc.yaml: a program and its arguments."""
    definition = stages[stage.partition("@")[0]]
    words = shlex.split(definition.get("do", definition)["cmd"])
    return words[words.index("workflows.stage") + 1 :]


def modules() -> list[str]:
    """Those of all programs and studies, and what this one imports."""
    studies = [importlib.import_module(f"{package}.commands.study").STUDIES for package in PACKAGES]
    named = [place.partition(":")[0] for each in studies for place in (*each.stages.values(), *each.reports.values())]
    programs = [f"{package}.{name}" for package in PACKAGES for name in ("cli", "train")]
    return ["mlflow.store.tracking.sqlalchemy_store", "workflows.graph", "workflows.miniatures", *named, *programs]


def run(stage: str, words: Sequence[str], log: Path) -> Outcome:
    """Runs a stage's command in the working directory, by processes that have imported its program already."""
    log.parent.mkdir(parents=True, exist_ok=True)
    told, tell = SERVER.Pipe(duplex=False)
    process = SERVER.Process(target=follow, args=(perform, words, log, tell))
    process.start()
    process.join()
    return Outcome(stage, *told.recv())


def follow(perform: Callable[..., None], words: Sequence[str], log: Path, tell: Connection) -> None:
    """Performs a command in a process of its own, which may become torchrun; sends the numbers of its `Outcome`."""
    process = multiprocessing.get_context("fork").Process(target=perform, args=(words, log))
    process.start()
    process.join()
    taken = resource.getrusage(resource.RUSAGE_CHILDREN)
    tell.send((taken.ru_utime + taken.ru_stime, taken.ru_maxrss // 1024, process.exitcode))


def perform(words: Sequence[str], log: Path) -> None:
    """Becomes the command that `words` are, as `workflows.stage` does."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{Path.cwd()}/mlflow.db"
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["PYTHONPATH"] = search_path()
    torch.set_num_threads(1)
    sys.argv = list(words)
    importlib.import_module(f"{words[0].replace('-', '_')}.cli").main(words[1:])


def rehearse(reads: Mapping[str, set[str]], perform: Callable[[str], Outcome], *, jobs: int) -> list[Outcome]:
    """Runs stages, `jobs` at a time, each after those that it reads; says each, and goes on after one that fails."""
    outcomes: dict[str, Outcome] = {}
    waiting = TopologicalSorter(reads)
    waiting.prepare()
    running: set[Future[Outcome]] = set()

    def end(outcome: Outcome) -> None:
        outcomes[outcome.stage] = outcome
        waiting.done(outcome.stage)
        print(f"{len(outcomes):3}/{len(reads)} {outcome}", flush=True)

    with ThreadPoolExecutor(jobs) as pool:
        while waiting.is_active():
            for stage in waiting.get_ready():
                lacks = next((name for name in sorted(reads[stage]) if outcomes[name].status != 0), "")
                if lacks:
                    end(Outcome(stage, lacks=lacks))
                else:
                    running.add(pool.submit(perform, stage))
            if running:
                finished, running = wait(running, return_when=FIRST_COMPLETED)
                for each in finished:
                    end(each.result())
    return list(outcomes.values())


def said(outcomes: Sequence[Outcome], logs: Path, seconds: float) -> str:
    """The end of each failed stage's log, and a line on all."""
    failed = [one for one in outcomes if one.status not in (0, None)]
    skipped = sum(one.status is None for one in outcomes)
    peak = max((one.peak for one in outcomes), default=0)
    ends = []
    for one in failed:
        lines = log_of(one.stage, logs).read_text(errors="replace").splitlines()
        ends.append("\n".join([f"{one.stage} ended with {one.status}:", *lines[-LINES:], ""]))
    every = f"rehearsed {len(outcomes) - skipped} of {len(outcomes)} stages in {seconds:.0f} s, at most {peak} MB each"
    return "\n".join([*ends, f"{every}; {len(failed)} failed, {skipped} not run"])


def log_of(stage: str, logs: Path) -> Path:
    """What a stage has said."""
    return logs / f"{stage}.log"


def main(arguments: Sequence[str] | None = None) -> int:
    """Rehearses, and says what came of it."""
    parser = argparse.ArgumentParser(prog="python -m workflows.rehearse", description=str(__doc__).partition("\n")[2])
    parser.add_argument("stages", nargs="*", metavar="STAGE", help="stages of dvc.yaml; without any, all")
    parser.add_argument("--jobs", type=int, default=2, help="stages at a time (%(default)s)")
    parser.add_argument("--folder", type=Path, help="a new folder that is kept; by default one that goes")
    options = parser.parse_args(arguments)
    if options.folder is not None and options.folder.exists():
        parser.error(f"--folder {options.folder}: it exists; name a new one")
    folder = Path(tempfile.mkdtemp(prefix="rehearsal-")) if options.folder is None else options.folder.absolute()
    try:
        return rehearsed(folder, set(options.stages), options.jobs)
    except commands.StageError as error:
        options.folder = None  # nothing has run in it
        parser.error(str(error))
    finally:
        if options.folder is None:
            shutil.rmtree(folder)


def rehearsed(folder: Path, wanted: Set[str], jobs: int) -> int:
    """Rehearses stages in a folder; 1 if one fails, 0 otherwise.

    Raises:
        commands.StageError: there is no such stage.
    """
    prepare(folder, reduced(profile("paper")))
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # which would run beside all that is forked
    SERVER.set_forkserver_preload(modules())
    print("Of the profile paper, this is smaller:", *map(str, REDUCED), "", sep="\n")
    with chdir(folder):
        small, stages = parameters.load(), commands.definitions()
        known = {job.stage: job for rule in graph.rules(small) for job in rule.jobs.values()}
        reads = order(known, wanted)
        words = {stage: commands.fill(command(stage, stages), stage, small, stages) for stage in reads}
        if any(not reads[stage] and stage.endswith("_download") for stage in reads):
            miniatures.write(Path("datasets"))
        begun = time.monotonic()
        outcomes = rehearse(reads, lambda stage: run(stage, words[stage], log_of(stage, Path("logs"))), jobs=jobs)
        print("", said(outcomes, Path("logs"), time.monotonic() - begun), sep="\n")
    return int(any(one.status != 0 for one in outcomes))


if __name__ == "__main__":
    sys.exit(main())
