"""How a program ends that is asked to, or that nobody reads any more: with a line and the usual status, no traceback.

Statuses are those of a shell: 128 and the number of the signal.
"""

import io
import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TextIO

from deq_core.experiment import distributed


class Terminated(KeyboardInterrupt):
    """The process was asked to end by SIGTERM: what an interrupt from the keyboard ends, this ends as well."""


@contextmanager
def ending(prog: str) -> Iterator[None]:
    """Runs a program `prog`, which ends by SystemExit where it is interrupted or its output is read no further.

    SIGTERM raises `Terminated` within the block, so that it is left as by Ctrl-C: runs are marked as killed, files are
    whole or not there, trainings resume. A second one ends the process at once. Errors pass as they are.
    """
    try:
        with terminable():
            yield
            sys.stdout.flush()
    except KeyboardInterrupt as error:
        number = signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT
        if distributed.rank() == 0:
            said = "terminated" if number == signal.SIGTERM else "interrupted"
            print(f"{prog}: {said}", file=sys.stderr)
        sys.exit(128 + number)
    except OSError as error:
        broken = [stream for stream in (sys.stdout, sys.stderr) if unread(stream)]
        if not isinstance(error, BrokenPipeError) or not broken:
            raise
        for stream in broken:  # else Python tries again when it ends, and complains
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        sys.exit(128 + signal.SIGPIPE)


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM raises `Terminated` in the block, where it would end the process and nothing else is done about it."""
    free = threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if not free:
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise Terminated

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def unread(stream: TextIO) -> bool:
    """Whether a stream is a pipe whose other end is closed."""
    try:
        poll = select.poll()
        poll.register(stream.fileno(), 0)
    except (OSError, ValueError, io.UnsupportedOperation):  # closed, or none of the system's
        return False
    return any(event & select.POLLERR for _, event in poll.poll(0))
