"""Writes files and folders atomically; replaces only unchanged output of the same command.

A full disk, a folder without permission, or one with other content is an error that says what to do.
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

from deq_core.experiment.outputs import written
from deq_core.experiment.outputs.output_error import OutputError as OutputError
from deq_core.experiment.outputs.output_error import explained as explained
from deq_core.experiment.outputs.uninterrupted import uninterrupted

_HIDDEN = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.(?P<what>partial|replaced)@(?P<host>.+)@(?P<process>\d+)")
"""Hidden names made by `_beside`, for unfinished outputs and for replaced ones."""


@contextlib.contextmanager
def output_directory(out: Path, *, replaceable: bool = True) -> Iterator[Path]:
    """Yields an empty folder beside `out`, which is moved to `out` on success and removed on failure.

    An existing folder `out` is replaced if the same command wrote it and it is unchanged (see `written`). Files that
    others put there while the block runs are moved into the new folder. If such a file has the name of a new one, or
    another run of the same command finished meanwhile, the old folder is kept beside the new one. If `out` is a link,
    the link stays and the folder that it points to is replaced.

    Args:
        out: the folder.
        replaceable: whether a later call may replace `out`; this reads everything that was written.

    Raises:
        OutputError: `out` cannot be written or has other content; the message names the remedy. Other errors pass
            unchanged.
    """
    out = out.resolve() if out.is_symlink() else out
    partial = _beside(out, "partial")
    whole = not any(_HIDDEN.fullmatch(parent.name) for parent in out.parents)  # else part of unfinished output
    with explained(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        _require_place(out, folder=True)
        asked, there = written.writer().asked == out.resolve(), os.path.lexists(out)
        if not asked:
            require_own(out, folder=True)
        _remove_abandoned(out)  # may restore an earlier output
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
    """Yields a path of the same name in a hidden folder beside `out`, for libraries that write files themselves.

    The file is moved to `out` on success and removed on failure, which leaves `out` unchanged. If another file has
    appeared at `out` meanwhile, the new one is kept beside it, with a message on stderr.

    Raises:
        OutputError: `out` cannot be written; the message names the remedy. Other errors pass unchanged.
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
                written.keep(folder / out.name, out, f"another file has appeared at {out}, so the new one")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def output_files(outs: Sequence[Path]) -> Iterator[None]:
    """Allows the block to write the files `outs`, and records them as output of this command.

    Raises:
        OutputError: a file cannot be written, or is neither new nor unchanged output of the same command.
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
    """Checks before long work that the folder or file `out` can be written; changes nothing.

    Raises:
        OutputError: `out` cannot be written; the message names the remedy.
    """
    trial = _beside(out, "trial").name
    with explained(out):
        _require_place(out, folder=folder)
        nearest = next(parent for parent in out.absolute().parents if os.path.lexists(parent))
        (nearest / trial).mkdir()
        (nearest / trial).rmdir()


def require_own(out: Path, *, folder: bool) -> None:
    """Checks that `out` is new, an empty folder, or unchanged output of this command.

    Raises:
        OutputError: `out` has other content; the message names it and the remedy.
    """
    with explained(out):
        if not folder and (why := written.strange(out)):
            raise OutputError(f"cannot write {out}: {why}: choose another name, or move that file away")
        if folder and out.is_dir() and (why := written.stranger(out)):
            raise OutputError(f"cannot write {out}: it holds {why}: choose another folder, or move that away")


def discard(folder: Path, names: Sequence[str]) -> None:
    """Removes the files `names` from `folder`, and the folder if it is then empty."""
    for name in names:
        _remove_abandoned(folder / name)
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not empty
        folder.rmdir()


def write_bytes(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Writes `data` to `path` atomically.

    Args:
        path: the file.
        data: its new content.
        durable: whether the write is atomic even in a power cut, which requires waiting for the disk. Also removes
            partial files of killed processes.

    Raises:
        OutputError: the file cannot be written; `path` keeps its old content.
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
    """Writes UTF-8 text with `write_bytes`; surrogates, from file names that are not UTF-8, are written as escapes."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as JSON with sorted keys, so that equal values give equal files.

    Raises:
        ValueError: `value` has a NaN or infinity, which JSON lacks.
    """
    try:
        text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False)
    except ValueError as error:
        raise ValueError(f"{path}: JSON has no NaN or infinity: leave the key out where there is no value") from error
    write_text(path, text + "\n")


def _put_in_place(partial: Path, out: Path, before: tuple[int, int] | None) -> None:
    """Moves `partial` to `out`, where the folder with identity `before` may be replaced.

    If this fails, `partial` is kept under a visible name beside `out`, and the error is raised.
    """
    old = _beside(out, "replaced")
    try:
        if os.path.lexists(out):
            out.replace(old)
        partial.replace(out)
    except OSError:
        if os.path.lexists(old):
            old.replace(out)
        written.keep(partial, out, f"the new output for {out}")
        raise
    if written.owned(old) and written.identity(old) != before:
        written.keep(old, out, f"what another {written.writer()} has put at {out} meanwhile")
    else:
        written.give_back(old, out)


def _identity(path: Path) -> tuple[int, int] | None:
    """Value that changes when a file is replaced or modified; None if there is no file."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns


def _require_place(out: Path, *, folder: bool) -> None:
    """Checks that `out` can be replaced by a folder or file.

    Raises:
        FileExistsError, IsADirectoryError: a file is in place of a folder, or a folder in place of a file.
        OutputError: `out` is a mount point, such as a volume of a container.
    """
    if folder and out.exists() and not out.is_dir():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(out))
    if not folder and out.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(out))
    if os.path.ismount(os.path.realpath(out) if folder else out):
        remedy = "choose a new name in it" if folder else "choose another name"
        raise OutputError(f"cannot write {out}: something is mounted there, so it cannot be replaced: {remedy}")


def _beside(path: Path, word: str) -> Path:
    """A new hidden name beside `path` that includes the machine and process that it belongs to."""
    if path.name in ("", ".."):
        raise OutputError(f"cannot write {path}: this command replaces the whole folder: choose a new name in it")
    return path.with_name(f".{_short(path)}.{secrets.token_hex(4)}.{word}@{socket.gethostname()}@{os.getpid()}")


def _short(path: Path) -> str:
    """The name of `path`, shortened with a digest if too long to extend within the limit of 255 bytes."""
    name = os.fsencode(path.name)
    return path.name if len(name) <= 120 else f"{path.name[:20]}~{hashlib.sha256(name).hexdigest()[:16]}"


def _remove_abandoned(path: Path) -> None:
    """Removes hidden files and folders beside `path` that ended processes of this machine left behind.

    A folder that such a process was replacing is moved back to `path`. If there is a new one, only files of others in
    it are moved back.
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
