"""A program that is interrupted, terminated, or read no further ends with the usual status and no traceback."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deq_core.experiment.ending import Terminated, ending

PROGRAM = """
import signal, sys, time
from pathlib import Path
from deq_core.experiment.ending import ending

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has it ignored in what it starts in the background
with ending("planted"):
    try:
        print("begun", flush=True)
        {does}
    finally:
        Path(sys.argv[1]).write_text("left in order")
"""


def started(does: str, mark: Path) -> subprocess.Popen[str]:
    program = [sys.executable, "-c", PROGRAM.format(does=does), str(mark)]
    buffered = {**os.environ, "PYTHONUNBUFFERED": ""}
    return subprocess.Popen(program, env=buffered, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("number", "said"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")])
def test_a_signal_ends_a_program_in_order_with_a_line_and_its_status(
    number: signal.Signals, said: str, tmp_path: Path
) -> None:
    program = started("time.sleep(60)", tmp_path / "mark")
    assert program.stdout is not None
    program.stdout.readline()
    program.send_signal(number)
    _, told = program.communicate(timeout=30)
    assert (program.returncode, told) == (128 + number, f"planted: {said}\n")
    assert (tmp_path / "mark").read_text() == "left in order"


@pytest.mark.parametrize("does", ["print('more', flush=True)", "print('more')"])
def test_output_that_is_read_no_further_ends_a_program_in_silence(does: str, tmp_path: Path) -> None:
    with started(f"time.sleep(0.2); {does}", tmp_path / "mark") as program:
        assert program.stdout is not None
        assert program.stderr is not None
        program.stdout.readline()
        program.stdout.close()
        assert program.stderr.read() == ""
    assert program.returncode == 128 + signal.SIGPIPE
    assert (tmp_path / "mark").read_text() == "left in order"


def test_a_broken_pipe_that_is_not_the_output_is_an_error_as_others(capsys: pytest.CaptureFixture[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(BrokenPipeError), ending("planted"):
        os.write(writer, b"lost")
    os.close(writer)


def test_a_signal_that_is_ignored_or_handled_stays_so() -> None:
    for handler in (signal.SIG_IGN, lambda number, frame: None):
        before = signal.signal(signal.SIGTERM, handler)
        try:
            with ending("planted"):
                assert signal.getsignal(signal.SIGTERM) == handler
        finally:
            signal.signal(signal.SIGTERM, before)
    with pytest.raises(SystemExit), ending("planted"):
        raise Terminated
    assert signal.getsignal(signal.SIGTERM) == before
