"""First contact with a tracking store in an SQLite file, safe for any number of processes at once."""

import contextlib
import os
import sqlite3
import urllib.parse
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from deq_core.experiment.files import OutputError, explained

_NO_DATABASE = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
_ELSEWHERE = "MLFLOW_TRACKING_URI names another place for the tracking store"


def prepare(path: Path, build: Callable[[Path], None]) -> None:
    """Makes the SQLite file `path` where it is not there yet; `build` makes a file of the name it is given.

    MLflow creates its tables without a lock, so processes that meet at a new file break each other's migration
    ("duplicate column name"). Here one builds the file under another name while the rest wait, and it appears whole.
    It uses a write-ahead log, with which readers and one writer do not wait for each other.

    Raises:
        OutputError: it cannot be made, or what is there is no database.
    """
    if path.exists():
        _check(path)
        return
    try:
        with explained(path):
            _make(path, build)
    except OutputError as error:
        raise OutputError(f"{error}; {_ELSEWHERE}") from error


def require_access(path: Path) -> None:
    """Looks whether runs may be recorded in the SQLite file `path`: a write-ahead log lies beside it.

    Raises:
        OutputError: this user may not write the file, or in its folder.
    """
    if not (os.access(path, os.R_OK | os.W_OK) and os.access(path.parent, os.W_OK | os.X_OK)):
        raise OutputError(
            f"cannot write {path}: this user may not write it and its folder, or the disk is read-only: change the "
            f"owner or mode, or {_ELSEWHERE}"
        )


def _check(path: Path) -> None:
    if path.is_dir():
        raise _no_database(path, "a folder")
    try:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("pragma schema_version")
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF in _NO_DATABASE:  # not where another process has locked it
            raise _no_database(path, str(error)) from error


def _no_database(path: Path, found: str) -> OutputError:
    return OutputError(
        f"{path}: expected a database of MLflow's, got {found}: move it away, and the next run makes a new one, or "
        f"{_ELSEWHERE}"
    )


def _make(path: Path, build: Callable[[Path], None]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f"{path.name}.lock")):
        if path.exists():
            return
        partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
        partial.unlink(missing_ok=True)
        build(partial)
        connection = sqlite3.connect(partial)
        try:
            connection.execute("pragma journal_mode=wal")
        finally:
            connection.close()
        partial.replace(path)


def sqlite_path(uri: str) -> Path | None:
    """The file of a store such as `sqlite:///mlflow.db`, absolute; None for other stores."""
    if not uri.startswith("sqlite:///"):
        return None
    return Path(urllib.parse.unquote(uri.removeprefix("sqlite:///").split("?")[0])).absolute()


def artifact_location(uri: str, experiment: str) -> str | None:
    """Where an experiment's artifacts go: beside an SQLite file; None lets a server decide."""
    path = sqlite_path(uri)
    return None if path is None else (path.parent / "mlartifacts" / experiment).as_uri()
