"""A process that is gone is known to be, and one that may run is never taken for gone."""

import os
import subprocess
import sys

import pytest

from deq_core.experiment.tracking.store import processes
from deq_core.experiment.tracking.store.processes import gone, this_process

PRINT = (
    "from deq_core.experiment.tracking.store.processes import this_process; print(this_process(), flush=True); input()"
)


def test_a_process_is_gone_when_it_has_ended() -> None:
    assert not gone(this_process())
    with subprocess.Popen([sys.executable, "-c", PRINT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        said = process.stdout.readline().decode().strip()
        assert not gone(said)
        process.kill()
    assert gone(said)


def test_a_number_that_is_used_again_is_another_process() -> None:
    machine, boot, space, number, start = this_process().split(" ")
    assert number == str(os.getpid())
    assert gone(" ".join((machine, boot, space, number, str(int(start) + 1))))


@pytest.mark.parametrize("said", ["", "5", "a b c d e f", "a b c -1 5"])
def test_what_is_no_process_is_not_gone(said: str) -> None:
    assert not gone(said)


def test_a_process_of_an_earlier_boot_is_gone_on_the_same_machine_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_machine", lambda: "here/1")
    _, _, space, number, start = this_process().split(" ")
    assert gone(f"here/1 earlier {space} {number} {start}")
    assert not gone(f"there/2 earlier {space} {number} {start}")
    monkeypatch.setattr(processes, "_machine", lambda: "unknown")
    assert not gone(f"unknown earlier {space} {number} {start}")


def test_a_process_of_another_container_may_run() -> None:
    machine, boot, _, _, start = this_process().split(" ")
    assert not gone(f"{machine} {boot} pid:[1] 999999999 {start}")


def test_nothing_is_known_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_text", lambda path: "")
    assert not gone(this_process())
