"""Writes files and folders whole or not at all; a full disk or a forbidden folder is an error that says what to do."""

import contextlib
import errno
import json
import os
import secrets
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_REMEDIES = {
    errno.ENOENT: "the folder is not there, nor can it be made: choose another folder",
    errno.ENOSPC: "the disk is full: free space there or choose another folder",
    errno.EDQUOT: "your disk quota is used up: free space there or choose another folder",
    errno.EFBIG: "the file would pass the size limit of this process or file system: see `ulimit -f`",
    errno.EROFS: "the file system is read-only: choose another folder",
    errno.EACCES: "this user may not write there: change the folder's owner or mode, or choose another folder",
    errno.EPERM: "this user may not write there: change the folder's owner or mode, or choose another folder",
    errno.ENOTDIR: "a parent of it is a file: remove that file or choose another folder",
    errno.EEXIST: "a file is where a folder is needed: remove that file or choose another folder",
    errno.EISDIR: "a folder is where a file is needed: remove that folder or choose another name",
    errno.ENAMETOOLONG: "the name is too long for this file system: choose a shorter one",
    errno.EIO: "the disk reports an input/output error: check it, or choose another folder",
}


class OutputError(OSError):
    """An output that could not be written; the message names its path and the remedy."""


@contextlib.contextmanager
def output_directory(out: Path) -> Iterator[Path]:
    """An empty folder beside `out` to write into; moved to `out` whole on success, removed on failure.

    A folder that is at `out` already is replaced. What a killed process left of an earlier attempt is removed.

    Raises:
        OutputError: where `out` cannot be written, naming it and the remedy. Other errors pass unchanged.
    """
    partial = _beside(out, "partial")
    with explained(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        _require_place(out, folder=True)
        _remove_abandoned(out)
        partial.mkdir()
    try:
        with explained(out, inside=partial):
            yield partial
        with explained(out):
            _put_in_place(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def output_file(out: Path) -> Iterator[Path]:
    """A path of the same name in a hidden folder beside `out`, for libraries that write files by themselves.

    The file is moved to `out` on success and removed on failure, when `out` keeps its old content.

    Raises:
        OutputError: where `out` cannot be written, naming it and the remedy. Other errors pass unchanged.
    """
    with explained(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        _require_place(out, folder=False)
        _remove_abandoned(out)
        folder = _beside(out, "partial")
        folder.mkdir()
    try:
        with explained(out, inside=folder):
            yield folder / out.name
            (folder / out.name).replace(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
    """`write_bytes` of UTF-8 text."""
    write_bytes(path, text.encode())


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


@contextlib.contextmanager
def explained(out: Path, inside: Path | None = None) -> Iterator[None]:
    """Turns an `OSError` about writing `out` into an `OutputError`, for code that writes in ways of its own.

    Within the body of `output_directory`, `inside` tells an error about what is written there, or about no named
    file (a full disk), from one about a file the body reads (which alone may be missing).
    """
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0)
        named = error.filename if isinstance(error.filename, str | os.PathLike) else None
        named_here = error.errno != errno.ENOENT if named is None else Path(named).is_relative_to(inside or "")
        about_input = inside is not None and not named_here
        if remedy is None or about_input:
            raise
        hidden = named is not None and Path(named).name.startswith(f".{out.name}.")  # says nothing to who named `out`
        about = f": {named}" if named and not hidden else ""
        fault = OutputError(f"cannot write {out}: {remedy} ({error.strerror}{about})")
        fault.errno = error.errno
        raise fault from error


def _put_in_place(partial: Path, out: Path) -> None:
    old = _beside(out, "replaced")
    if out.exists():
        out.replace(old)
    try:
        partial.replace(out)
    except OSError:
        if old.exists():
            old.replace(out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _require_place(out: Path, *, folder: bool) -> None:
    """Raises what the system would where a file is in the place of a folder, or a folder in that of a file."""
    if folder and out.exists() and not out.is_dir():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(out))
    if not folder and out.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(out))


def _beside(path: Path, word: str) -> Path:
    """A new hidden name beside `path` that says which process of which machine it belongs to."""
    if path.name in ("", ".."):
        raise OutputError(f"cannot write {path}: it would be replaced whole: choose a new name in it")
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.{word}@{socket.gethostname()}@{os.getpid()}")


def _remove_abandoned(path: Path) -> None:
    """Removes the hidden files and folders beside `path` of processes of this machine that no longer run."""
    for entry in path.parent.iterdir():
        name, *owner = entry.name.rsplit("@", maxsplit=2)
        ours = name.startswith(f".{path.name}.") and name.endswith((".partial", ".replaced"))
        match owner:
            case [host, process] if ours and host == socket.gethostname() and not _runs(process):
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink(missing_ok=True)


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
