"""Keeps Snakemake and DVC from working in one checkout at the same time.

The lock is held exclusively by a Snakemake that runs jobs, and shared by every stage that a plain `dvc repro` runs.
It is an flock, so it ends with its process, however that ends.
"""

import fcntl
import os
from pathlib import Path

LOCK = Path(".snakemake/workspace.lock")
ENGINE = "DEQ_ENGINE"
"""Environment variable that tells a stage which engine started it: "snakemake" or, unset, DVC itself."""


class WorkspaceBusyError(RuntimeError):
    """The other engine is at work in this checkout."""


def claim() -> int:
    """Takes the workspace for a Snakemake that is about to run jobs; its stages learn who started them.

    Returns:
        The descriptor that holds the lock until the process ends. Child processes do not inherit it.

    Raises:
        WorkspaceBusyError: another Snakemake, or a stage of `dvc repro`, is at work here.
    """
    descriptor = lock(fcntl.LOCK_EX)
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"snakemake (process {os.getpid()})".encode())
    os.environ[ENGINE] = "snakemake"
    return descriptor


def join() -> int | None:
    """Enters the workspace from inside a stage.

    Returns:
        The descriptor of the shared lock, inherited by the command that replaces this process; None where Snakemake
        started the stage and holds the lock itself.

    Raises:
        WorkspaceBusyError: a Snakemake is at work here and did not start this stage.
    """
    if os.environ.get(ENGINE) == "snakemake":
        return None
    descriptor = lock(fcntl.LOCK_SH)
    os.set_inheritable(descriptor, True)
    return descriptor


def check_idle() -> None:
    """Does nothing where no engine is at work.

    Raises:
        WorkspaceBusyError: a Snakemake, or a stage of `dvc repro`, is at work here.
    """
    os.close(lock(fcntl.LOCK_EX))


def lock(mode: int) -> int:
    """A new descriptor that holds the lock in `mode` (fcntl.LOCK_EX or LOCK_SH); never waits."""
    LOCK.parent.mkdir(exist_ok=True)
    descriptor = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise WorkspaceBusyError(
            f"{Path.cwd()}: {holder(mode)} is at work in this checkout. "
            "Wait for it to end, or stop it; finished jobs stay finished and either engine goes on from there."
        ) from None
    return descriptor


def holder(mode: int) -> str:
    """Who holds the lock that could not be taken in `mode`; the file may still name a Snakemake that has ended."""
    if mode == fcntl.LOCK_EX:
        return "another Snakemake or `dvc repro`"
    return LOCK.read_text() or "a Snakemake"
