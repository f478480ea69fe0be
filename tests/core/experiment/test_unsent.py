"""A tracking store that fails costs a run some seconds and no entry of its record."""

import contextlib
import json
import re
import shlex
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from tests.core.experiment.mlflow_server import server

from deq_core.experiment.files import OutputError
from deq_core.experiment.tracking import recording
from deq_core.experiment.tracking.recording import Recording
from deq_core.experiment.tracking.run import track
from deq_core.experiment.tracking.send import main, send
from deq_core.experiment.tracking.store import patience
from deq_core.experiment.tracking.store import sqlite_store as store

AWAY = "the tracking store does not accept the run"
COMMAND = r"python -m deq_core.experiment.tracking.send \S+"
STEPS = 60


@pytest.fixture
def client(tracking_database: Path) -> MlflowClient:
    return MlflowClient(tracking_uri=f"sqlite:///{tracking_database}")


def runs(client: MlflowClient) -> dict[str, Run]:
    """All runs by name."""
    found = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    named = {str(run.info.run_name): run for run in found}
    assert len(named) == len(found), "a run was sent twice"
    return named


def work(name: str, folder: Path, midst: Callable[[Recording], object], scratch: Path | None = None) -> str:
    """Tracks a run with a file and STEPS values of a metric, calling `midst` halfway; returns what it warned of."""
    out = folder / name
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with track(f"flow {name}", {"lr": 0.5}, out=out, scratch=scratch) as log:
            assert isinstance(log, Recording)
            for step in range(1, STEPS + 1):
                log({"loss": 1 / step, "epe": 2 / step}, step)
                if step == STEPS // 2:
                    log.flush()
                    midst(log)
            out.mkdir()
            (out / "metrics.json").write_text("{}")
    return " ".join(str(warning.message) for warning in said)


def complete(client: MlflowClient, run: Run) -> bool:
    """Whether the store has all that `work` says, once, at the times when it was said."""
    for name, scale in (("loss", 1), ("epe", 2)):
        history = client.get_metric_history(run.info.run_id, name)
        assert [metric.step for metric in history] == list(range(1, STEPS + 1))
        assert [metric.value for metric in history] == [scale / step for step in range(1, STEPS + 1)]
        begun, ended = run.info.start_time, run.info.end_time
        assert all(begun and ended and begun <= metric.timestamp <= ended for metric in history)
    assert run.data.params == {"lr": "0.5"}
    assert any(name.startswith("out.") for name in run.data.tags)
    assert {entry.path for entry in client.list_artifacts(run.info.run_id)} == {"config.json", "metrics.json"}
    return run.info.status == "FINISHED"


@pytest.mark.slow
def test_a_server_that_hangs_dies_or_is_away_holds_up_no_run_and_gets_it_later(
    tracking_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "_FLUSH_SECONDS", 0.0)

    def seconds(name: str, midst: Callable[[Recording], None]) -> float:
        begun = time.monotonic()
        said = work(name, tmp_path, midst)
        match = re.search(COMMAND, said)
        assert match is not None, said
        commands.add(match[0])
        return time.monotonic() - begun

    commands: set[str] = set()
    with server(tracking_database) as running:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", running.address)
        with track("flow fine", {}, out=tmp_path / "fine"):
            pass
        assert seconds("hung", lambda log: running.signal(signal.SIGSTOP)) < 20
        running.signal(signal.SIGCONT)
        assert seconds("killed", lambda log: running.signal(signal.SIGKILL)) < 20
        assert seconds("absent", lambda log: None) < 20
        (command,) = commands
        arguments = shlex.split(command)
        with pytest.raises(SystemExit, match=r"^.*$"):
            main(arguments[3:])
        running.start()
        sent = subprocess.run([sys.executable, *arguments[1:]], capture_output=True, text=True)
        assert (sent.returncode, sent.stderr) == (0, "")
        said = {line.partition(":")[0] for line in sent.stdout.splitlines()}
        # the try of the first at its end has got through, if its process lived long enough
        assert {"flow killed", "flow absent"} <= said <= {"flow hung", "flow killed", "flow absent"}
        assert "nothing to send" in send(Path(arguments[3]))[0]
        client = MlflowClient(tracking_uri=running.address)
        found = runs(client)
        assert set(found) == {"flow fine", "flow hung", "flow killed", "flow absent"}
        assert all(complete(client, found[f"flow {name}"]) for name in ("hung", "killed", "absent"))


def test_a_server_that_never_answers_is_waited_for_twice(
    tracking_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 2 * patience.LIMIT < 20
    monkeypatch.setattr(recording, "LIMIT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://user:secret@127.0.0.1:{silent.getsockname()[1]}")
        begun = time.monotonic()
        said = work("flow", tmp_path, Recording.flush)
        assert 0.6 < time.monotonic() - begun < 10
    assert f"{AWAY}: no answer within 0.3 s" in said
    assert "secret" not in said + "".join(path.read_text() for path in tmp_path.rglob("mlflow-unsent/*/*.json*"))


@contextlib.contextmanager
def held(database: Path) -> Iterator[None]:
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("begin exclusive")
        yield
        connection.execute("rollback")


@pytest.mark.parametrize("when", ["from the start", "in the midst"])
def test_a_file_that_another_process_holds_gets_the_run_later(
    when: str, client: MlflowClient, tracking_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "PATIENCE", 0.2)
    with contextlib.ExitStack() as stack:

        def hold(log: object) -> None:
            monkeypatch.setattr(recording, "LIMIT", 0.2)
            stack.enter_context(held(tracking_database))

        if when == "from the start":
            hold(None)
        said = work("flow", tmp_path, Recording.flush if when == "from the start" else hold)
    assert AWAY in said
    assert re.search(COMMAND, said)
    sent(tmp_path)
    (run,) = runs(client).values()
    assert complete(client, run)


def sent(folder: Path) -> None:
    """Sends until nothing is left; a try of the run itself may still be under way."""
    end = time.monotonic() + 60
    while list((folder / "mlflow-unsent").iterdir()):
        assert time.monotonic() < end
        with contextlib.suppress(OutputError):
            send(folder / "mlflow-unsent")
        time.sleep(0.1)


BROKEN = [("log_batch",), ("log_artifact",), ("set_terminated",), ("log_batch", "log_artifact", "set_terminated")]


def refuse(*_: object, **__: object) -> None:
    raise ValueError("(raised as a result of Query-invoked autoflush)\nno room left\nin the store")


@pytest.mark.parametrize("broken", BROKEN)
def test_what_a_store_refuses_is_kept_and_the_rest_is_sent(
    broken: tuple[str, ...], client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(log: Recording) -> None:
        for name in broken:
            monkeypatch.setattr(MlflowClient, name, refuse)

    scratch = tmp_path / "scratch"
    with monkeypatch.context() as monkeypatch:
        said = work("flow", tmp_path, breaks, scratch=scratch)
    assert re.search(
        rf"{AWAY}: no room left\. .* {tmp_path / 'flow'} is whole\. .* entries: no room left\. .*{COMMAND}", said
    )
    assert not list(scratch.iterdir())
    (run,) = runs(client).values()
    assert run.info.status == ("RUNNING" if "set_terminated" in broken else "FINISHED")
    assert any(name.startswith("out.") for name in run.data.tags) == ("log_batch" not in broken)
    send(tmp_path / "mlflow-unsent")
    (run,) = runs(client).values()
    assert complete(client, run)
    assert not list((tmp_path / "mlflow-unsent").iterdir())


def test_a_store_that_is_back_at_the_end_of_a_run_gets_all_of_it(
    client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails_once(log: Recording) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(MlflowClient, "log_batch", refuse)
            log({"once": 1.0}, 1)
            log.flush()

    assert COMMAND not in work("flow", tmp_path, fails_once)
    (run,) = runs(client).values()
    assert complete(client, run)
    assert run.data.metrics["once"] == 1


def test_a_store_that_is_slow_is_waited_for_no_longer_than_a_run_has_for_it(
    client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call is answered within the limit; it is their sum that counts."""
    real, calls = MlflowClient.log_batch, []

    def slow(*values: object, **named: object) -> object:
        calls.append(time.sleep(0.2))
        return real(*values, **named)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(recording, "_FLUSH_SECONDS", 0.0)
    monkeypatch.setattr(recording, "_SHARE", 0.0)
    monkeypatch.setattr(recording, "_BUDGET", 2.0)
    monkeypatch.setattr(MlflowClient, "log_batch", slow)
    said = work("flow", tmp_path, lambda log: monkeypatch.setattr(MlflowClient, "log_batch", real))
    assert 1 < len(calls) <= 10 < STEPS // 2
    assert re.search(rf"{AWAY}: (it is slow, and this run has waited 2 s|no answer within)", said)
    assert COMMAND not in said
    (run,) = runs(client).values()
    assert complete(client, run)


def test_sending_may_be_interrupted_anywhere_and_repeated(
    client: MlflowClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store takes one call more in each try, and the answer to the last one is lost."""
    calls = [0, 0]

    def lossy(real: Callable[..., object]) -> Callable[..., object]:
        def call(*values: object, **named: object) -> object:
            calls[0] += 1
            result = real(*values, **named)
            if calls[0] > calls[1]:
                raise TimeoutError("no answer")
            return result

        return call

    monkeypatch.setattr(recording, "_FLUSH_SECONDS", 0.0)
    with monkeypatch.context() as patched:
        for name in ("create_run", "log_batch", "log_artifact", "set_terminated"):
            patched.setattr(MlflowClient, name, lossy(getattr(MlflowClient, name)))
        work("flow", tmp_path, lambda log: None)
        while list((tmp_path / "mlflow-unsent").iterdir()):
            calls[:] = [0, calls[1] + 1]
            with contextlib.suppress(OutputError):
                send(tmp_path / "mlflow-unsent")
    (run,) = runs(client).values()
    assert complete(client, run)
    assert calls[1] > 2


def test_a_killed_training_goes_on_in_its_record_while_the_store_is_away_and_when_it_is_back(
    client: MlflowClient, tracking_database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "LIMIT", 0.5)
    monkeypatch.setattr(store, "PATIENCE", 0.2)

    def attempt(last: int) -> None:
        with track("flow.train", {"lr": 1}, out=tmp_path / "out", scratch=tmp_path / "scratch") as log:
            for step in range(1, last + 1):
                log({"loss": 1 / step}, step)
            log.flush()  # pyright: ignore[reportAttributeAccessIssue]  of a `Recording`
            if last < 30:
                raise KeyboardInterrupt

    with held(tracking_database):
        for last in (10, 20):
            with (
                pytest.warns(UserWarning, match=COMMAND),
                pytest.warns(UserWarning, match=AWAY),
                pytest.raises(KeyboardInterrupt),
            ):
                attempt(last)
    journal = next((tmp_path / "mlflow-unsent").glob("*/entries.jsonl"))
    with journal.open("a") as file:
        file.write('{"metrics": [["loss", 0.')  # a kill in the midst of a line
    sent(tmp_path)
    attempt(30)
    (run,) = runs(client).values()
    assert run.info.status == "FINISHED"
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [metric.step for metric in history] == list(range(1, 31))
    assert "error" not in run.data.tags
    assert not list((tmp_path / "mlflow-unsent").iterdir())


@pytest.mark.parametrize("text", ["", '{"key": 1', "[]"])
def test_a_damaged_record_is_named(text: str, client: MlflowClient, tmp_path: Path) -> None:
    folder = tmp_path / "mlflow-unsent" / "abc"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(text)
    with pytest.raises(SystemExit, match=rf"{folder}/run\.json: expected .*; remove {folder}$"):
        main([])


def test_a_record_is_kept_for_the_store_that_has_its_run(client: MlflowClient, tmp_path: Path) -> None:
    folder = tmp_path / "mlflow-unsent" / "abc"
    folder.mkdir(parents=True)
    heading = {"key": "abc", "experiment": "flow", "name": "a", "time": 5, "tags": {}, "model": {}}
    (folder / "run.json").write_text(json.dumps({**heading, "store": "http://127.0.0.1:9"}))
    with pytest.raises(SystemExit, match=r"^http://127\.0\.0\.1:9: the tracking store fails: .*refused"):
        main([])
    main(["--to", f"sqlite:///{tmp_path}/mlflow.db"])
    assert runs(client)["a"].info.start_time == 5
