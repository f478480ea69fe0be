"""A training killed with SIGKILL, twice and in its middle, ends with the bits of one that ran through."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.core.experiment.lesson import OPTIM, STEPS, lesson

from deq_core.experiment import checkpoint
from deq_core.experiment.checkpoint import CheckpointError
from deq_core.experiment.files import write_bytes
from deq_core.experiment.results import read_rows

ROOT = Path(__file__).parents[3]


def start(scratch: Path, out: Path) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "tests.core.experiment.lesson", scratch, out]
    environment = {**os.environ, "LESSON_GATE": "1"}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, stderr=pipe)


def kill_at(scratch: Path, out: Path, batch: int) -> None:
    """Starts the training and kills it while it works on the `batch`-th batch of this process."""
    with start(scratch, out) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(batch - 1):
            assert process.stdout.readline() == b"batch\n"
            process.stdin.write(b"\n")
            process.stdin.flush()
        assert process.stdout.readline() == b"batch\n"
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL


def test_a_training_killed_twice_ends_with_the_bits_of_an_unbroken_one(tmp_path: Path) -> None:
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    kill_at(broken / "scratch", broken, 2 * 7)  # two batches a step: within step 7, checkpoint of step 5
    assert checkpoint.load_state(broken / "scratch" / "training.pt")["step"] == 5
    kill_at(broken / "scratch", broken, 2 * 13 - 1)  # within step 18, between its two batches; checkpoint of step 15
    assert checkpoint.load_state(broken / "scratch" / "training.pt")["step"] == 15
    with start(broken / "scratch", broken) as process:
        said, complained = process.communicate(b"\n" * 2 * STEPS)
    assert process.returncode == 0, complained.decode()
    assert said.count(b"batch") == 2 * (STEPS - 15)
    model, history = lesson(whole / "scratch")
    checkpoint.save(whole / "model.safetensors", model, OPTIM)
    assert read_rows(broken / "history.csv") == history
    assert (broken / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def test_a_finished_training_is_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, history = lesson(tmp_path)
    monkeypatch.setattr("tests.core.experiment.lesson.objective", None)  # not called again
    again, same = lesson(tmp_path)
    assert same == history
    assert all(one.equal(two) for one, two in zip(first.parameters(), again.parameters(), strict=True))


def test_earlier_rows_are_logged_again_so_that_none_is_lost(tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    class Recorder:
        def __init__(self, limit: int):
            self.rows: list[tuple[int, dict[str, float]]] = []
            self.limit = limit

        def __call__(self, values: object, step: int = 0) -> None:
            if step > self.limit:
                raise Stopped
            assert isinstance(values, dict)
            self.rows.append((step, values))

        def flush(self) -> None: ...
        def artifact(self, path: Path) -> None: ...
        def tag(self, key: str, value: str) -> None: ...

    with pytest.raises(Stopped):
        lesson(tmp_path, log=Recorder(13))
    recorder = Recorder(STEPS)
    _, history = lesson(tmp_path, log=recorder)
    assert [{"step": step, **values} for step, values in recorder.rows] == history


def test_a_checkpoint_of_another_recipe_is_refused(tmp_path: Path) -> None:
    lesson(tmp_path, steps=6)
    with pytest.raises(CheckpointError, match=r"training\.pt is of another training: steps was 6, is 9; remove it"):
        lesson(tmp_path, steps=9)


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    lesson(tmp_path, steps=6)
    path = tmp_path / "training.pt"
    write_bytes(path, path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=f"{path}: cut short or damaged"):
        lesson(tmp_path, steps=6)
