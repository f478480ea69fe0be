"""Damaged files, one after the other, for one reader, in a process of its own whose memory is watched."""

import json
import mmap
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from tests.fuzz.mutations import mutated
from tests.fuzz.reader import Reader

LARGEST = 256 << 20
"""Bytes that a reader may ask for at most for a file of under a megabyte."""
ROOM = 2 << 30
"""Bytes beyond what the process has that the system gives at all: more than `LARGEST`, so that it is seen in time."""
PATIENCE = 20
"""Seconds for one file."""
FEW = 20
"""Faults of a reader that are told."""


@dataclass
class Outcome:
    """What the damaged files of one reader came to."""

    reader: str
    tried: int = 0
    read: int = 0
    refused: int = 0
    seconds: float = 0.0
    faults: list[tuple[int, str]] = field(default_factory=list)
    """Index of a mutation, and what was wrong."""
    memory: int = 0
    """Of the faults, those of memory."""


class TooSlow(BaseException):
    """A file took longer than `PATIENCE`."""


def damaged_file(reader: Reader, data: bytes, seed: int, index: int, others: Sequence[bytes]) -> bytes:
    """The file number `index` of a reader: a function of names and numbers alone."""
    return mutated(data, random.Random(f"{seed}/{reader.name}/{index}"), others)


def run(reader: Reader, others: Sequence[bytes], *, seed: int, start: int = 0, count: int) -> Outcome:
    """Tries `count` damaged files; a killed process is a fault like others."""
    total, stop = Outcome(reader.name), start + count
    while start < stop and len(total.faults) < FEW:
        part = forked(reader, others, seed, range(start, stop))
        total.tried += part.tried
        total.read += part.read
        total.refused += part.refused
        total.seconds += part.seconds
        total.memory += part.memory
        total.faults += part.faults
        start += part.tried
    return total


def forked(reader: Reader, others: Sequence[bytes], seed: int, indices: range) -> Outcome:
    """What a child process came to, which may end before the last file."""
    progress = mmap.mmap(-1, 8)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        report = Path(folder) / "report.json"
        child = os.fork()
        if child == 0:
            status = 1
            try:
                outcome = tried(reader, others, seed, indices, Path(folder), progress)
                report.write_text(json.dumps(asdict(outcome)))
                status = 0
            except BaseException:
                traceback.print_exc(file=sys.stdout)  # stderr is watched
            finally:
                sys.stdout.flush()
                os._exit(status)
        _, status = os.waitpid(child, 0)
        if report.exists():
            return Outcome(**json.loads(report.read_text()))
        killed, done = f"the process ended with status {status} (signal {status & 127})", int.from_bytes(progress[:8])
        if done == 0:
            raise RuntimeError(f"{reader.name}: the whole file cannot be written or read: {killed}")
        return Outcome(reader.name, tried=done, faults=[(indices[done - 1], killed)])


def tried(
    reader: Reader, others: Sequence[bytes], seed: int, indices: range, folder: Path, progress: mmap.mmap
) -> Outcome:
    """In the child: files one after the other, each counted in `progress` before it is read."""
    outcome, began = Outcome(reader.name), time.monotonic()
    (folder / "files").mkdir()
    path = reader.write(folder / "files")
    data = path.read_bytes()
    original = reader.read(path)
    size = virtual("VmSize")
    resource.setrlimit(resource.RLIMIT_AS, (size + ROOM, size + ROOM))
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST, LARGEST))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, too_slow)
    with tempfile.TemporaryFile() as noise:
        os.dup2(noise.fileno(), 2)
        for outcome.tried, index in enumerate(indices, start=1):
            progress[:8] = outcome.tried.to_bytes(8)
            damaged = damaged_file(reader, data, seed, index, others)
            path.write_bytes(damaged)
            fault = trial(reader, path, None if damaged in others else original, outcome)
            if fault is None and not reader.remarks and os.lseek(2, 0, os.SEEK_CUR) > 0:
                noise.seek(0)
                fault = f"noise on stderr: {noise.read(200)!r}"
            noise.seek(0)
            noise.truncate()
            asked = virtual("VmPeak") - size
            if asked > LARGEST:
                fault = f"asked for {asked >> 20} MiB of memory"
            if fault is not None:
                outcome.faults.append((index, fault))
                outcome.memory += "memory" in fault
                if asked > LARGEST or len(outcome.faults) >= FEW:
                    break  # the peak stays: the next process begins without
    outcome.seconds = time.monotonic() - began
    return outcome


def trial(reader: Reader, path: Path, original: Any, outcome: Outcome) -> str | None:
    """What was wrong with how the file at `path` was read; None if nothing. `original` None lets any value pass."""
    signal.alarm(PATIENCE)
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            value = reader.read(path)
        outcome.read += 1
        if warned:
            return f"warning: {one_line(warned[0].message)}"
        return None if original is None or reader.right(original, value) else f"wrong value: {one_line(value)}"
    except reader.errors as error:
        outcome.refused += 1
        if out_of_memory(error):
            return f"memory: {one_line(error)}"
        if path.name not in str(error) and str(path.parent) not in str(error):
            return f"an error without the path: {one_line(error)}"
        return None
    except BaseException as error:
        return f"foreign: {type(error).__module__}.{type(error).__name__}: {one_line(error)}{where(error)}"
    finally:
        signal.alarm(0)


def out_of_memory(error: BaseException | None) -> bool:
    """Whether the system gave less than was asked for."""
    while error is not None:
        if isinstance(error, MemoryError) or "allocate" in str(error) or "Insufficient memory" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def where(error: BaseException) -> str:
    """The innermost of our lines."""
    place, trace = "", error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        if "packages/deq-" in code.co_filename:
            place = f" at {Path(code.co_filename).name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return place


def one_line(value: object) -> str:
    return " ".join(repr(value)[:300].split())


def virtual(name: str) -> int:
    """Bytes of the process's address space: VmSize now, VmPeak at most so far."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) << 10
    raise AssertionError(name)


def too_slow(number: int, frame: FrameType | None) -> NoReturn:
    raise TooSlow(f"took more than {PATIENCE} s")
