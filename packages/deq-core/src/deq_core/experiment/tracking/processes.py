"""Which process of which machine something belongs to, and whether that process is gone."""

import hashlib
import os
import socket
from pathlib import Path

UNKNOWN = "unknown"


def this_process() -> str:
    """Machine, its boot, the processes that see each other, number and start of this process, as one line."""
    return " ".join((_machine(), _boot(), _space(), str(os.getpid()), _start(os.getpid())))


def gone(process: str) -> bool:
    """Whether what `this_process` once said is a process that no longer runs; False where this cannot be known.

    It is known on the same machine since it was started anew, and among processes that see each other (not those of
    another container). It is not known on systems without /proc.
    """
    match process.split(" "):
        case [machine, boot, space, number, start] if number.isdecimal() and UNKNOWN not in (boot, start, _boot()):
            if boot == _boot():
                return space == _space() and _start(int(number)) != start
            return machine == _machine() != UNKNOWN
    return False


def running(process: str) -> bool:
    """Whether what `this_process` once said is a process that is seen to run; False where this cannot be known."""
    match process.split(" "):
        case [_, boot, space, number, start] if number.isdecimal() and UNKNOWN not in (boot, space, start):
            return (boot, space, start) == (_boot(), _space(), _start(int(number)))
    return False


def _machine() -> str:
    """What no other machine has, or "unknown": containers often have none. Systems ask to keep their own to oneself."""
    found = _text("/etc/machine-id")
    return hashlib.sha256(f"{socket.gethostname()} {found}".encode()).hexdigest()[:32] if found else UNKNOWN


def _boot() -> str:
    """A number that is another one whenever a machine is started."""
    return _text("/proc/sys/kernel/random/boot_id") or UNKNOWN


def _space() -> str:
    """What the processes that see each other share."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return UNKNOWN


def _start(number: int) -> str:
    """When the process of this number began, as numbers are used again; "unknown" where it has ended."""
    fields = _text(f"/proc/{number}/stat").rpartition(")")[2].split()
    return UNKNOWN if not fields or fields[0] in "ZX" else fields[19]


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
