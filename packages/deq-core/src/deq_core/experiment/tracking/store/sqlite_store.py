"""Creates and checks a tracking store in an SQLite file, safely for concurrent processes."""

import contextlib
import os
import re
import sqlite3
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from deq_core.experiment.errors import UserError
from deq_core.experiment.files import OutputError, explained, output_file

PATIENCE = 8.0
"""Seconds that a process waits for a lock on the store."""
ARTIFACTS = "mlartifacts"
"""Folder beside a store with the files of its runs."""
_PLACES = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
"""(table, column) of all URIs of files in MLflow's tables."""
_ELSEWHERE = "MLFLOW_TRACKING_URI names another place for the tracking store"
_REMEDIES = {
    "malformed": "move it away, and the next run makes a new one",
    "not a database": "move it away, and the next run makes a new one",
    "locked": "another process holds it: wait for that one or end it",
    "is full": "free space on its disk",
    "I/O error": "free space on its disk, if that is full",
    "readonly": "change its owner or mode",
}
"""{part of SQLite's message: remedy}"""


class StoreError(OutputError):
    """A store fails or is not valid; the message has the remedy and mentions MLFLOW_TRACKING_URI."""


@contextlib.contextmanager
def one_line(uri: str) -> Iterator[None]:
    """Turns any error of a store's libraries in the block into a `StoreError` with the store and a remedy.

    MLflow passes on errors of its database, drivers and HTTP client.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        said = first_line(error)
        remedy = next((remedy for word, remedy in _REMEDIES.items() if word in said), "see that it can be reached")
        named = sqlite_path(uri) or without_password(uri)
        raise StoreError(f"{named}: the tracking store fails: {said}; {remedy}, or {_ELSEWHERE}") from error


def without_password(uri: str) -> str:
    """A store's URI without password, for messages and files; the path of a file is absolute."""
    path = sqlite_path(uri)
    if path is not None:
        return f"sqlite:///{path}"
    scheme, mark, place = uri.partition("://")
    return f"{scheme}{mark}{place.rpartition('@')[2]}"


def first_line(error: BaseException) -> str:
    """First line of an error's message, without passwords in URIs and without SQLAlchemy's note on its origin."""
    lines = [line for line in str(error).strip().splitlines() if not line.startswith("(raised as a result of")]
    return re.sub(r"(?<=://)[^\s/]+@", "", lines[0]) if lines else type(error).__name__


def prepare(path: Path, build: Callable[[Path], None]) -> None:
    """Creates the SQLite file `path` if it does not exist; `build` creates a store at a given path.

    MLflow creates its tables without a lock, so concurrent processes break each other's migrations ("duplicate column
    name"). Here one process builds the file under another name while the others wait, and moves it into place. The
    database uses a write-ahead log, so that readers and one writer do not block each other.

    Raises:
        OutputError: the file cannot be created, or is not a store.
    """
    if _is_there(path):
        return
    try:
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_name(f"{path.name}.lock"), timeout=20 * PATIENCE):
                if not _is_there(path):
                    _make(path, build)
    except Timeout:
        raise OutputError(f"{path}: another process has been making it for too long; end that one") from None
    except StoreError:
        raise
    except OutputError as error:
        raise OutputError(f"{error}; {_ELSEWHERE}") from error


def take_artifacts_along(path: Path) -> None:
    """Updates the artifact paths in the SQLite file `path` if its folder was moved or copied.

    MLflow stores absolute paths, and would otherwise read and write artifacts in the old folder. A store that this user
    may not write is left unchanged.
    """
    here = path.parent / ARTIFACTS
    if not (here.is_dir() and os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        return
    with _opened(path) as connection:
        rows = connection.execute("select artifact_location from experiments where experiment_id = 0")
        then = next((str(place).removesuffix("/0") for (place,) in rows), "")
        if then == here.as_uri() or not (then.startswith("file:///") and then.endswith(f"/{ARTIFACTS}")):
            return
        for table, column in _PLACES:
            moved = f"update {table} set {column} = ? || substr({column}, ?) where substr({column}, 1, ?) = ?"
            connection.execute(moved, (here.as_uri(), len(then) + 1, len(then) + 1, f"{then}/"))
        connection.commit()


def require_access(path: Path) -> None:
    """Checks that runs can be written to the SQLite file `path`, and to its folder for the write-ahead log.

    Raises:
        OutputError: the user may not write the file or its folder, or another process holds a lock.
    """
    if not (os.access(path, os.R_OK | os.W_OK) and os.access(path.parent, os.W_OK | os.X_OK)):
        raise OutputError(
            f"cannot write {path}: this user may not write it and its folder, or the disk is read-only: change the "
            f"owner or mode, or {_ELSEWHERE}"
        )
    with _opened(path) as connection:
        connection.execute("begin immediate")
        connection.rollback()


def require_schema(path: Path, newest: str, known: Collection[str], program: str) -> None:
    """Checks that the tables in the SQLite file `path` have the schema of the installed MLflow.

    Args:
        path: the store.
        newest: schema version that the installed MLflow expects.
        known: all schema versions that it knows.
        program: its name and version.

    Raises:
        OutputError: the schema is older or newer.
    """
    with _opened(path) as connection:
        found = next((version for (version,) in connection.execute("select version_num from alembic_version")), "none")
    if found == newest:
        return
    if found in known:
        raise OutputError(
            f"{path}: made by an older version of MLflow than {program}, which is installed (tables {found}, not "
            f"{newest}): copy the file, then run `mlflow db upgrade 'sqlite:///{path}'`, or {_ELSEWHERE}"
        )
    raise OutputError(
        f"{path}: made by a newer version of MLflow than {program}, which is installed and does not know its tables "
        f"({found}): install the newer one, or {_ELSEWHERE}"
    )


def sqlite_path(uri: str) -> Path | None:
    """The file of a store such as `sqlite:///mlflow.db`, absolute; None for other stores.

    Raises:
        OutputError: a "?" is part of a path, not the start of options.
    """
    if not uri.startswith("sqlite:///"):
        return None
    name, mark, options = uri.removeprefix("sqlite:///").partition("?")
    if mark and not all("=" in option and "/" not in option for option in options.split("&")):
        raise OutputError(
            f"MLFLOW_TRACKING_URI={uri}: a file or folder with '?' in its name cannot be named in it: choose another, "
            "or work in that folder, with sqlite:///mlflow.db"
        )
    return None if name in ("", ":memory:") or name.startswith("file:") else Path(name).absolute()


def sqlite_uri(path: Path) -> str:
    """MLflow's URI of the SQLite file `path`; relative if the path contains "?"."""
    return f"sqlite:///{os.path.relpath(path) if '?' in str(path) else path}"


def artifact_location(uri: str, experiment: str) -> str | None:
    """URI of an experiment's artifacts, beside an SQLite file; None lets a server decide."""
    path = sqlite_path(uri)
    return None if path is None else (path.parent / ARTIFACTS / experiment).as_uri()


def _is_there(path: Path) -> bool:
    """Whether `path` is a store; an empty file, as left by a full disk, counts as missing.

    Raises:
        OutputError: `path` is something else.
    """
    if path.is_dir():
        raise _no_store(path, "a folder")
    if not path.exists() or path.stat().st_size == 0:
        return False
    with _opened(path) as connection:
        tables = {name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}
    if "alembic_version" not in tables:
        raise _no_store(path, f"another one, with {len(tables)} tables")
    return True


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[sqlite3.Connection]:
    with one_line(f"sqlite:///{path}"), contextlib.closing(sqlite3.connect(path, timeout=PATIENCE)) as connection:
        yield connection


def _no_store(path: Path, found: str) -> StoreError:
    return StoreError(
        f"{path}: expected a database of MLflow's, got {found}: move it away, and the next run makes a new one, or "
        f"{_ELSEWHERE}"
    )


def _make(path: Path, build: Callable[[Path], None]) -> None:
    with one_line(f"sqlite:///{path}"), output_file(path) as partial:
        build(partial)
        with contextlib.closing(sqlite3.connect(partial)) as connection:
            connection.execute("pragma journal_mode=wal")
