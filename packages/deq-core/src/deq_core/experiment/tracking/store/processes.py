"""Identifies processes across machines and reboots, and tells whether one is gone or running."""

import hashlib
import os
import socket
from pathlib import Path

UNKNOWN = "unknown"


def this_process() -> str:
    """Identity of this process as one line: machine, boot, PID namespace, PID and start time."""
    return " ".join((_machine(), _boot(), _space(), str(os.getpid()), _start(os.getpid())))


def gone(process: str) -> bool:
    """Whether the process with this identity no longer runs; False if unknown.

    It is known after a reboot of the same machine, and within the same PID namespace (not for other containers). It is
    unknown on systems without /proc.
    """
    match process.split(" "):
        case [machine, boot, space, number, start] if number.isdecimal() and UNKNOWN not in (boot, start, _boot()):
            if boot == _boot():
                return space == _space() and _start(int(number)) != start
            return machine == _machine() != UNKNOWN
    return False


def running(process: str) -> bool:
    """Whether the process with this identity runs; False if unknown."""
    match process.split(" "):
        case [_, boot, space, number, start] if number.isdecimal() and UNKNOWN not in (boot, space, start):
            return (boot, space, start) == (_boot(), _space(), _start(int(number)))
    return False


def _machine() -> str:
    """Hash that identifies the machine, or "unknown" (often in containers). The machine ID itself is confidential."""
    found = _text("/etc/machine-id")
    return hashlib.sha256(f"{socket.gethostname()} {found}".encode()).hexdigest()[:32] if found else UNKNOWN


def _boot() -> str:
    """ID of the machine's current boot."""
    return _text("/proc/sys/kernel/random/boot_id") or UNKNOWN


def _space() -> str:
    """PID namespace of this process."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return UNKNOWN


def _start(number: int) -> str:
    """Start time of a process, which tells reused PIDs apart; "unknown" if the process has ended."""
    fields = _text(f"/proc/{number}/stat").rpartition(")")[2].split()
    return UNKNOWN if not fields or fields[0] in "ZX" else fields[19]


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
