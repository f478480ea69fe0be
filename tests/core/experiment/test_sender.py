"""While a sender is at work runs leave their records to it; nothing is lost if it ends before they do."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from tests.core.experiment.mlflow_server import PATIENCE
from tests.core.experiment.test_unsent import STEPS, complete, held, runs, work

from deq_core.experiment.tracking import recording, sender
from deq_core.experiment.tracking.run import track

COMMAND = [sys.executable, "-m", "deq_core.experiment.tracking.sender"]


@pytest.fixture
def client(tracking_database: Path) -> MlflowClient:
    return MlflowClient(tracking_uri=f"sqlite:///{tracking_database}")


@contextlib.contextmanager
def sending(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A sender at work on the records in `folder`."""
    with subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait(lambda: sender.at_work(folder / "mlflow-unsent"))
            yield process
        finally:
            process.kill()


@pytest.fixture
def no_input(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Standard input that is closed from the start, so that a sender in this process looks once and ends."""
    with Path(os.devnull).open() as closed:
        monkeypatch.setattr(sys, "stdin", closed)
        yield


def wait(happened: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.5)  # a sender looks every five seconds


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("the run has asked for its store")


def test_a_run_leaves_its_record_to_a_sender_and_is_seen_before_it_ends_and_behind_its_parent(
    client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "train" / "weights"
    monkeypatch.setattr(recording, "connect", refuse)

    def halfway(_: object) -> None:
        wait(lambda: "flow first" in runs(client))
        found = runs(client)["flow first"]
        assert found.info.status == "RUNNING"
        wait(lambda: len(client.get_metric_history(found.info.run_id, "loss")) == STEPS // 2)

    with sending(tmp_path) as process:
        assert work("first", tmp_path, halfway) == work("second", tmp_path, lambda _: None) == ""
        process.send_signal(signal.SIGSTOP)
        with track("flow.train", {}, out=model.parent):
            model.parent.mkdir()
            model.write_text("of this run alone")
        with track("flow.evaluate", {}, out=tmp_path / "evaluate", parent_of=model):
            pass
        process.send_signal(signal.SIGCONT)
        _, said = process.communicate()  # which closes its standard input
    assert (process.returncode, said) == (0, "")
    assert not (tmp_path / "mlflow-unsent").exists()
    assert set(found := runs(client)) == {"flow first", "flow second", "flow.train", "flow.evaluate"}
    assert all(complete(client, found[name]) for name in ("flow first", "flow second"))
    assert found["flow.evaluate"].data.tags["mlflow.parentRunId"] == found["flow.train"].info.run_id


def test_a_second_sender_leaves_the_first_one_its_place_whose_runs_send_what_is_left_when_it_dies(
    client: MlflowClient, tmp_path: Path, no_input: None
) -> None:
    with sending(tmp_path) as process:
        sender.main()
        assert process.poll() is None
        assert sender.at_work(tmp_path / "mlflow-unsent")

        def halfway(_: object) -> None:
            wait(lambda: runs(client))
            process.kill()
            process.wait()

        assert work("first", tmp_path, halfway) == ""
    assert work("second", tmp_path, lambda _: None) == ""
    found = runs(client)
    assert set(found) == {"flow first", "flow second"}
    assert all(complete(client, run) for run in found.values())


def test_a_training_that_is_killed_is_marked_and_goes_on_in_its_run(client: MlflowClient, tmp_path: Path) -> None:
    code = """
import time
from pathlib import Path
from deq_core.experiment.tracking.run import track
with track("flow.train", {}, out=Path("out"), scratch=Path("scratch")) as log:
    for step in range(1, 21):
        log({"loss": 1 / step}, step)
    log.flush()
    time.sleep(600)
"""
    with sending(tmp_path) as process:
        with subprocess.Popen([sys.executable, "-c", code]) as training:
            wait(lambda: (found := runs(client)) and found["flow.train"].data.metrics.get("loss") == 1 / 20)
            training.kill()
        wait(lambda: runs(client)["flow.train"].info.status == "KILLED")
        with track("flow.train", {}, out=Path("out"), scratch=Path("scratch")) as log:
            for step in range(16, 31):
                log({"loss": 1 / step}, step)
        process.communicate()
    (run,) = runs(client).values()
    assert run.info.status == "FINISHED"
    assert [one.step for one in client.get_metric_history(run.info.run_id, "loss")] == list(range(1, 31))


def test_what_waits_in_the_end_is_said_with_the_command_that_sends_it(
    client: MlflowClient, tracking_database: Path, tmp_path: Path
) -> None:
    with sending(tmp_path) as process, held(tracking_database):
        work("first", tmp_path, lambda _: None)
        _, said = process.communicate()
    assert process.returncode == 1
    assert said.startswith(f"Records of runs wait in {tmp_path / 'mlflow-unsent'}: ")
    assert said.endswith(f"python -m deq_core.experiment.tracking.send {tmp_path / 'mlflow-unsent'}\n")
    work("second", tmp_path, lambda _: None)
    assert not sender.at_work(tmp_path / "mlflow-unsent")


def test_a_store_that_is_none_ends_a_sender_and_is_told_by_the_runs(
    tracking_database: Path, tmp_path: Path, no_input: None
) -> None:
    tracking_database.write_text("no database")
    with pytest.raises(SystemExit, match=rf"^{tracking_database}: .*$"):
        sender.main()
    assert not sender.at_work(tmp_path / "mlflow-unsent")
