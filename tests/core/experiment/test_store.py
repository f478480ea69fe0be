"""Any number of processes may meet at a store that is not there yet."""

import contextlib
import gc
import multiprocessing
import re
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.core.experiment.test_files import file_size_limit

from deq_core.experiment.files import OutputError
from deq_core.experiment.tracking.find import find
from deq_core.experiment.tracking.run import track
from deq_core.experiment.tracking.store.connection import connect
from deq_core.experiment.tracking.store.sqlite_store import artifact_location, sqlite_path

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


@pytest.mark.parametrize("copied", [False, True])
def test_files_of_runs_go_with_a_folder_that_is_moved_or_copied(
    copied: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = tmp_path / "before 100%_", tmp_path / "after"
    before.mkdir()
    for place in (before, after):
        if place == after:
            shutil.copytree(before, after) if copied else before.rename(after)
        monkeypatch.chdir(place)
        with track("flow.train", {}, out=Path("out")):
            Path("out").mkdir(exist_ok=True)
            Path("out/metrics.json").write_text("{}")
    client = connect()
    (experiment,) = [one for one in client.search_experiments() if one.name == "flow"]
    runs = client.search_runs([experiment.experiment_id])
    assert len(runs) == 2
    for run in runs:
        assert (
            run.info.artifact_uri == f"{artifact_location('sqlite:///mlflow.db', 'flow')}/{run.info.run_id}/artifacts"
        )
        assert "metrics.json" in [file.path for file in client.list_artifacts(run.info.run_id)]
    assert before.exists() == copied
    assert len(list(before.glob("mlartifacts/flow/*"))) == copied


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


def test_only_sqlite_stores_have_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert sqlite_path("sqlite:///mlflow.db") == tmp_path / "mlflow.db"
    assert sqlite_path("sqlite:////data/a b#%20.db?timeout=5") == Path("/data/a b#%20.db"), "as SQLAlchemy reads it"
    assert sqlite_path("sqlite:///:memory:") is None
    assert sqlite_path("http://127.0.0.1:5000") is None
    assert artifact_location("sqlite:///mlflow.db", "flow") == (tmp_path / "mlartifacts" / "flow").as_uri()
    assert artifact_location("http://127.0.0.1:5000", "flow") is None


def refusal(folder: Path) -> str:
    """What a run in the store at MLFLOW_TRACKING_URI is refused with, before its block begins."""
    with pytest.raises(OutputError) as caught, track("flow", {}, out=folder / "out"):
        raise AssertionError("the block must not begin")
    said = str(caught.value)
    assert "\n" not in said
    assert said.endswith("MLFLOW_TRACKING_URI names another place for the tracking store")
    return said


@contextlib.contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


@pytest.mark.parametrize(
    ("version", "says"),
    [
        ("ffffffffffff", r"made by a newer version of MLflow than MLflow 3.*install the newer one"),
        (
            "728d730b5ebd",
            r"made by an older version of MLflow than MLflow 3.*`mlflow db upgrade 'sqlite:///.*mlflow\.db'`",
        ),
    ],
)
def test_a_store_of_another_mlflow_is_told_and_kept(
    version: str, says: str, tracking_database: Path, tmp_path: Path
) -> None:
    with opened(tracking_database) as connection:
        connection.execute("update alembic_version set version_num = ?", (version,))
        connection.execute("drop table webhook_events")  # MLflow would migrate it, without a lock
    before = tracking_database.read_bytes()
    assert re.search(says, refusal(tmp_path))
    assert tracking_database.read_bytes() == before


def test_a_store_that_is_damaged_behind_its_first_page_is_told(tracking_database: Path, tmp_path: Path) -> None:
    data = bytearray(tracking_database.read_bytes())
    for page in range(4096, len(data), 4096):
        data[page : page + 4096] = b"\xff" * min(4096, len(data) - page)
    tracking_database.write_bytes(data)
    assert f"{tracking_database}: the tracking store fails: database disk image is malformed; move it" in refusal(
        tmp_path
    )


def test_a_database_of_something_else_is_told_and_kept(tracking_database: Path, tmp_path: Path) -> None:
    tracking_database.unlink()
    with opened(tracking_database) as connection:
        connection.execute("create table mine (a)")
    assert "expected a database of MLflow's, got another one, with 1 tables: move it away" in refusal(tmp_path)
    with opened(tracking_database) as connection:
        assert connection.execute("select name from sqlite_master").fetchall() == [("mine",)]


def test_an_empty_file_is_no_store_yet(tracking_database: Path, tmp_path: Path) -> None:
    tracking_database.write_bytes(b"")
    with track("flow", {}, out=tmp_path / "out"):
        pass
    assert tracking_database.stat().st_size > 0


def test_a_full_disk_leaves_no_part_of_a_store(
    tracking_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking_database.unlink()
    for _ in range(2):
        with file_size_limit(100_000):
            said = refusal(tmp_path)
        assert f"{tracking_database}: the tracking store fails: " in said
        assert "free space on its disk" in said
        assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db.lock"]


@pytest.mark.parametrize("name", ["q?m", "a#b", "50%25", "a b;c", "ü'"])
def test_a_store_may_lie_in_any_folder(
    name: str, empty_tracking_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.chdir(folder)
    if name != "q?m":
        shutil.copy(empty_tracking_database, folder / "mlflow.db")  # to make one takes two seconds
    for _ in range(2):
        with track("flow", {}, out=Path("out")):
            Path("out").mkdir(exist_ok=True)
            Path("out/figure.svg").write_text("<svg/>")
    assert find(Path("out/figure.svg")) is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]
    assert {path.name for path in folder.iterdir()} >= {"mlflow.db", "mlartifacts", "out"}
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize("collects", [True, False])
def test_a_connection_leaves_the_collection_of_garbage_as_it_was(collects: bool, tracking_database: Path) -> None:
    try:
        gc.enable() if collects else gc.disable()
        connect()
        assert gc.isenabled() == collects
    finally:
        gc.enable()


def test_a_place_that_the_variable_cannot_name_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/q?m/mlflow.db")
    with pytest.raises(OutputError, match=r"with '\?' in its name cannot be named in it"):
        connect()
    assert list(tmp_path.iterdir()) == []


def test_an_address_of_no_store_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "nonsense://user:secret@a")
    assert re.search(r"^nonsense://a: the tracking store fails: .*see that it can be reached", refusal(tmp_path))


def test_what_mlflow_says_of_a_server_is_told_without_the_password_in_its_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@127.0.0.1:9")
    with pytest.raises(OutputError, match=r"API request to http://127\.0\.0\.1:9/api.*refused") as refused:
        find(Path("metrics.json"))
    assert "secret" not in str(refused.value)
