"""A real Slurm of one machine runs a pipeline by our profile, whatever it does to the jobs."""

import sqlite3
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.slurm.cluster import missing, slurm
from tests.workflows.checkout import copy, environment, run, set_parameters

pytestmark = pytest.mark.slow

MODEL = "results/sequence/train/characters-deq-0/model.safetensors"
SNAKEMAKE = ("snakemake", "--profile", "profiles/slurm", MODEL)
QUICK = ("--seconds-between-status-checks", "1", "--slurm-init-seconds-before-status-checks", "1")
PATIENCE = 900
"""Seconds."""


@pytest.fixture(autouse=True)
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Slurm's programs are on PATH."""
    if absent := missing():
        pytest.skip(f"not on this machine: {', '.join(absent)}; Debian has them in slurm-wlm and munge")
    if find_spec("snakemake_executor_plugin_slurm") is None:
        pytest.skip("not installed: snakemake-executor-plugin-slurm, which profiles/requirements.txt names")
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder, slurm(Path(folder)) as programs:
        monkeypatch.setenv("PATH", str(programs), prepend=":")
        yield


def test_a_training_that_slurm_requeues_and_that_is_cancelled_goes_on_to_its_end(tmp_path: Path) -> None:
    folder = copy(tmp_path)
    set_parameters(folder, {"sequence.train.characters-deq.steps": 100}, name="smoke")
    with subprocess.Popen(
        [*SNAKEMAKE, *QUICK],
        cwd=folder,
        env=environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as engine:
        first = wait(engine, lambda: trained(folder, since=0))
        asked = say("squeue", "--jobs", first, "--noheader", "--format=%m %C %l %N")
        began = time.time()
        say("scontrol", "requeue", first)
        assert wait(engine, lambda: trained(folder, since=began)) == first
        say("scancel", first)
        said, _ = engine.communicate(timeout=PATIENCE)
    assert engine.returncode == 0, said
    assert asked.split()[:3] == ["2000M", "1", "1-00:00:00"]
    assert "sequence_train characters-deq-0 FAILED" in said
    assert "2 of 2 done, 0 running\n" in said
    with closing(sqlite3.connect(folder / "mlflow.db")) as database:
        query = "select count(*) from tags where key = 'dvc.stage' and value like 'sequence_train@%'"
        assert database.execute(query).fetchone() == (1,)  # three jobs have gone on with one run
    assert "Nothing to be done" in run(folder, "snakemake", "--dry-run", MODEL).stdout


def trained(folder: Path, since: float) -> str:
    """The job in which a training has written a checkpoint since a point of time, or ""."""
    if not any(path.stat().st_mtime > since for path in folder.glob(".scratch/sequence_train-*/training.pt")):
        return ""
    return say("squeue", "--states=RUNNING", "--noheader", "--format=%i")


def wait(engine: subprocess.Popen[str], found: Callable[[], str]) -> str:
    """What is found while Snakemake works."""
    deadline = time.monotonic() + PATIENCE
    while not (what := found()):
        assert engine.poll() is None, engine.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return what


def say(*command: str) -> str:
    """What a program of Slurm says."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
