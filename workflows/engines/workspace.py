"""A lock that keeps Snakemake and DVC from working in one checkout at the same time.

It is held exclusively by a Snakemake that runs jobs, and shared by the stages that a plain `dvc repro` runs. It is an
flock, so it is released when its process ends, in whatever way.
"""

import fcntl
import os
from pathlib import Path

LOCK = Path(".snakemake/workspace.lock")
ENGINE = "DEQ_ENGINE"
"""Environment variable with the engine that started a stage: "snakemake", or unset for DVC itself."""


class WorkspaceError(RuntimeError):
    """No engine can work in this checkout."""


class WorkspaceBusyError(WorkspaceError):
    """Another engine is at work in this checkout."""


def claim() -> int:
    """Takes the lock for a Snakemake that is about to run jobs, and sets `ENGINE` for its stages.

    Returns:
        The file descriptor that holds the lock until the process ends. Child processes do not inherit it.

    Raises:
        WorkspaceBusyError: another Snakemake, or a stage of `dvc repro`, is at work here.
    """
    descriptor = lock(fcntl.LOCK_EX)
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"snakemake (process {os.getpid()})".encode())
    os.environ[ENGINE] = "snakemake"
    return descriptor


def join() -> int | None:
    """Takes the shared lock from inside a stage.

    Returns:
        The file descriptor of the lock, which the command that replaces this process inherits; None if Snakemake
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
    """Checks that no engine is at work.

    Raises:
        WorkspaceBusyError: a Snakemake, or a stage of `dvc repro`, is at work here.
    """
    os.close(lock(fcntl.LOCK_EX))


def lock(mode: int) -> int:
    """A new file descriptor that holds the lock in `mode` (fcntl.LOCK_EX or LOCK_SH), without waiting.

    Raises:
        WorkspaceBusyError: another process holds the lock.
        WorkspaceError: this user may not write in the checkout, or its disk is full or read-only.
    """
    try:
        LOCK.parent.mkdir(exist_ok=True)
        descriptor = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise WorkspaceError(
            f"{Path.cwd()}: cannot write {LOCK} in this checkout ({error.strerror}). Change the owner or mode of the "
            "folder, free space on its disk if that is full, or work in another checkout."
        ) from None
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
    """Who holds the lock, in words. With LOCK_EX the file is no help, as it may name a Snakemake that has ended."""
    if mode == fcntl.LOCK_EX:
        return "another Snakemake or `dvc repro`"
    return LOCK.read_text() or "a Snakemake"
