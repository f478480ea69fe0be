"""Ends a program after Ctrl-C, SIGTERM or a closed output with one line and no traceback.

Exit statuses are those of a shell: 128 plus the number of the signal.
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
    """SIGTERM was received; handled like a keyboard interrupt."""


@contextmanager
def ending(prog: str) -> Iterator[None]:
    """Turns interrupts and closed outputs in the block into SystemExit.

    SIGTERM raises `Terminated` in the block, with the same effect as Ctrl-C: runs are marked as killed, files are
    complete or absent, trainings can resume. A second SIGTERM ends the process at once. Other errors pass unchanged.
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
        for stream in broken:  # otherwise Python flushes again at exit, and complains
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        sys.exit(128 + signal.SIGPIPE)


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM raises `Terminated` in the block, unless it has a handler or this is not the main thread."""
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
    except (OSError, ValueError, io.UnsupportedOperation):  # closed, or not a file of the system
        return False
    return any(event & select.POLLERR for _, event in poll.poll(0))
