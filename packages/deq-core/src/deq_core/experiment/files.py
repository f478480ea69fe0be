"""Writes files and folders whole or not at all, and replaces nothing but what the same command wrote.

A full disk, a forbidden folder, and one that holds anything else are errors that say what to do.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from deq_core.experiment import written
from deq_core.experiment.output_error import OutputError as OutputError
from deq_core.experiment.output_error import explained as explained
from deq_core.experiment.uninterrupted import uninterrupted

_HIDDEN = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.(?P<what>partial|replaced)@(?P<host>.+)@(?P<process>\d+)")
"""A name of `_beside`: of what is being made, or of what was taken aside."""


@contextlib.contextmanager
def output_directory(out: Path, *, replaceable: bool = True) -> Iterator[Path]:
    """An empty folder beside `out` to write into; moved to `out` whole on success, removed on failure.

    A folder that is at `out` already is replaced where the same command wrote it, see `written`, and it is as it was
    left. What others put there while the block runs is put there again; where it has the name of a new file, the old
    folder stays beside the new one, as does the output of another run of the same command that ended meanwhile. A link
    at `out` stays, and so does a folder that it leads to, with a new content.

    Args:
        out: the folder.
        replaceable: whether a later call may replace it; that takes a reading of all that was written.

    Raises:
        OutputError: where `out` cannot be written or holds anything else, naming it and the remedy. Other errors pass
            unchanged.
    """
    out = out.resolve() if out.is_symlink() else out
    partial = _beside(out, "partial")
    whole = not any(_HIDDEN.fullmatch(parent.name) for parent in out.parents)  # else part of one that is being made
    with explained(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        _require_place(out, folder=True)
        asked, there = written.writer().asked == out.resolve(), os.path.lexists(out)
        if not asked:
            require_own(out, folder=True)
        _remove_abandoned(out)  # which may put an earlier output there again
        before = written.writer().found if asked and there else written.identity(out)
        partial.mkdir()
    try:
        with explained(out, inside=partial):
            yield partial
            if whole and replaceable:
                write_json(partial / written.RECORD, written.record_of(partial))
        with explained(out), uninterrupted():
            _put_in_place(partial, out, before)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def output_file(out: Path) -> Iterator[Path]:
    """A path of the same name in a hidden folder beside `out`, for libraries that write files by themselves.

    The file is moved to `out` on success and removed on failure, when `out` keeps its old content. It stays beside
    `out`, with a word on stderr, where another file has come there since.

    Raises:
        OutputError: where `out` cannot be written, naming it and the remedy. Other errors pass unchanged.
    """
    with explained(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        _require_place(out, folder=False)
        _remove_abandoned(out)
        before = _identity(out)
        folder = _beside(out, "partial")
        folder.mkdir()
    try:
        with explained(out, inside=folder):
            yield folder / out.name
            if _identity(out) == before:
                (folder / out.name).replace(out)
            else:
                written.keep(folder / out.name, out, f"another file has come to be at {out}, so that the new one")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def output_files(outs: Sequence[Path]) -> Iterator[None]:
    """A block that may write the files `outs`, each of which is new or was written by the same command.

    Raises:
        OutputError: where one is neither, or cannot be written, naming it and the remedy.
    """
    for out in outs:
        require_writable(out, folder=False)
        require_own(out, folder=False)
    try:
        yield
    finally:
        for folder in dict.fromkeys(out.parent for out in outs if out.is_file()):
            there = {out.name: written.digest(out) for out in outs if out.parent == folder and out.is_file()}
            digests = {name: value for name, value in there.items() if value is not None}
            if written.recorded(folder) or not os.path.lexists(folder / written.RECORD):
                write_json(folder / written.RECORD, written.record_of(folder, digests))


def require_writable(out: Path, *, folder: bool) -> None:
    """Raises now, before long work, what writing the folder or file `out` would raise after it; leaves no trace.

    Raises:
        OutputError: where `out` cannot be written, naming it and the remedy.
    """
    trial = _beside(out, "trial").name
    with explained(out):
        _require_place(out, folder=folder)
        nearest = next(parent for parent in out.absolute().parents if os.path.lexists(parent))
        (nearest / trial).mkdir()
        (nearest / trial).rmdir()


def require_own(out: Path, *, folder: bool) -> None:
    """Raises now where `out` is anything but new, an empty folder, or what this command wrote there, as it left it.

    Raises:
        OutputError: it is, naming what is not its own and the remedy.
    """
    with explained(out):
        if not folder and (why := written.strange(out)):
            raise OutputError(f"cannot write {out}: {why}: choose another name, or move that file away")
        if folder and out.is_dir() and (why := written.stranger(out)):
            raise OutputError(f"cannot write {out}: it holds {why}: choose another folder, or move that away")


def discard(folder: Path, names: Sequence[str]) -> None:
    """Removes the files of these names from `folder`, and the folder where there is nothing else in it."""
    for name in names:
        _remove_abandoned(folder / name)
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # it is not empty
        folder.rmdir()


def write_bytes(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Writes `data` to `path`, which at any moment holds its old content or all of the new.

    Args:
        durable: whether that holds after a power cut too, at the price of waiting for the disk. What a killed
            process left of an earlier attempt is removed.

    Raises:
        OutputError: where it cannot be written; `path` then keeps its old content.
    """
    partial = _beside(path, "partial")
    with explained(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if durable:
            _remove_abandoned(path)
        try:
            with partial.open("xb") as file:
                file.write(data)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        if durable:
            _sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of UTF-8 text; what stands for a byte of a name that is no UTF-8 is spelt out."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as JSON with sorted keys, so that equal values give equal files.

    Raises:
        ValueError: where `value` holds a number that JSON has no word for (NaN, infinity).
    """
    try:
        text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False)
    except ValueError as error:
        raise ValueError(f"{path}: JSON has no NaN or infinity: leave the key out where there is no value") from error
    write_text(path, text + "\n")


def _put_in_place(partial: Path, out: Path, before: tuple[int, int] | None) -> None:
    """Moves `partial` to `out`, at which the folder `before` may be replaced.

    Where the system does not let it, it moves to a new name beside `out`, and the fault is raised.
    """
    old = _beside(out, "replaced")
    try:
        if os.path.lexists(out):
            out.replace(old)
        partial.replace(out)
    except OSError:
        if os.path.lexists(old):
            old.replace(out)
        written.keep(partial, out, f"what was to be at {out}")
        raise
    if written.owned(old) and written.identity(old) != before:
        written.keep(old, out, f"what another {written.writer()} has put at {out} meanwhile")
    else:
        written.give_back(old, out)


def _identity(path: Path) -> tuple[int, int] | None:
    """Tells one file from another, and from itself once it was written to; None where there is none."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def _require_place(out: Path, *, folder: bool) -> None:
    """Raises what the system would where a file is in the place of a folder, or a folder in that of a file.

    Raises:
        OutputError: what is there cannot be replaced, as a volume of a container.
    """
    if folder and out.exists() and not out.is_dir():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(out))
    if not folder and out.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(out))
    if os.path.ismount(os.path.realpath(out) if folder else out):
        remedy = "choose a new name in it" if folder else "choose another name"
        raise OutputError(f"cannot write {out}: it is mounted there, so that it cannot be replaced whole: {remedy}")


def _beside(path: Path, word: str) -> Path:
    """A new hidden name beside `path` that says which process of which machine it belongs to."""
    if path.name in ("", ".."):
        raise OutputError(f"cannot write {path}: it would be replaced whole: choose a new name in it")
    return path.with_name(f".{_short(path)}.{secrets.token_hex(4)}.{word}@{socket.gethostname()}@{os.getpid()}")


def _short(path: Path) -> str:
    """The name of `path`, or what stands for it where that leaves too few of the 255 bytes that a name may have."""
    name = os.fsencode(path.name)
    return path.name if len(name) <= 120 else f"{path.name[:20]}~{hashlib.sha256(name).hexdigest()[:16]}"


def _remove_abandoned(path: Path) -> None:
    """Removes the hidden files and folders beside `path` of processes of this machine that no longer run.

    A folder that such a process took aside returns to `path`, or where there is a new one, what others put into it.
    """
    for entry in path.parent.iterdir():
        found = _HIDDEN.fullmatch(entry.name)
        if found is None or (found["name"], found["host"]) != (_short(path), socket.gethostname()):
            continue
        if _runs(found["process"]):
            continue
        if found["what"] == "partial":
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink(missing_ok=True)
        elif os.path.lexists(path):
            written.give_back(entry, path)
        else:
            entry.replace(path)


def _runs(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # another user's
    return True


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
