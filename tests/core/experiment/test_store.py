"""Any number of processes may meet at a store that is not there yet."""

import multiprocessing
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deq_core.experiment.store import artifact_location, sqlite_path
from deq_core.experiment.tracking import connect, track

PROCESSES = 8


def meet(folder: Path, number: int, barrier: Any, said: Any) -> None:
    """One process: waits for the others, then tracks a run in the store they all find missing."""
    import os

    os.chdir(folder)
    barrier.wait()
    try:
        with track("flow.train", {"number": number}, out=folder / f"out{number}", seed=number) as log:
            for step in range(50):
                log({"loss": float(number)}, step)
            (folder / f"out{number}").mkdir()
            (folder / f"out{number}" / "model").write_text(str(number))
        said.put((number, "ok"))
    except BaseException as error:
        said.put((number, repr(error)))
        raise


@pytest.mark.slow
def test_eight_processes_meet_at_a_new_store(tmp_path: Path) -> None:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "mlflow", "mlflow.store.tracking.sqlalchemy_store"])
    barrier, said = context.Barrier(PROCESSES), context.Queue()
    processes = [context.Process(target=meet, args=(tmp_path, number, barrier, said)) for number in range(PROCESSES)]
    for process in processes:
        process.start()
    found = dict(said.get(timeout=300) for _ in processes)
    for process in processes:
        process.join()
    assert found == dict.fromkeys(range(PROCESSES), "ok")
    client = connect(f"sqlite:///{tmp_path}/mlflow.db")
    experiments = [experiment for experiment in client.search_experiments() if experiment.name == "flow"]
    assert len(experiments) == 1
    runs = client.search_runs([experiments[0].experiment_id])
    assert sorted(int(run.data.params["number"]) for run in runs) == list(range(PROCESSES))
    assert all(len(client.get_metric_history(run.info.run_id, "loss")) == 50 for run in runs)
    with sqlite3.connect(tmp_path / "mlflow.db") as connection:
        assert connection.execute("pragma journal_mode").fetchone() == ("wal",)
    connection.close()
    assert not list(tmp_path.glob("*.partial*"))
    command = [sys.executable, "-m", "deq_core.experiment.tracking", "out3/model", "mlflow.db.lock"]
    said_of_files = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    (third,) = [run.info.run_id for run in runs if run.data.params["number"] == "3"]
    assert said_of_files.splitlines() == [third, "no run wrote mlflow.db.lock as it is now"]


def test_only_sqlite_stores_have_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert sqlite_path("sqlite:///mlflow.db") == tmp_path / "mlflow.db"
    assert sqlite_path("sqlite:////data/a%20b.db?timeout=5") == Path("/data/a b.db")
    assert sqlite_path("http://127.0.0.1:5000") is None
    assert artifact_location("sqlite:///mlflow.db", "flow") == (tmp_path / "mlartifacts" / "flow").as_uri()
    assert artifact_location("http://127.0.0.1:5000", "flow") is None
