"""First contact with a tracking store in an SQLite file, safe for any number of processes at once."""

import logging
import os
import sqlite3
import urllib.parse
from pathlib import Path

from filelock import FileLock


def prepare(uri: str) -> None:
    """Makes the store at `uri` where it is an SQLite file that is not there yet; other stores are left alone.

    MLflow creates its tables without a lock, so processes that meet at a new file break each other's migration
    ("duplicate column name"). Here one builds the file under another name while the rest wait, and it appears whole.
    It uses a write-ahead log, with which readers and one writer do not wait for each other.
    """
    # MLflow reports usage over the network unless told not to; these runs are nobody else's
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    path = sqlite_path(uri)
    if path is None or path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f"{path.name}.lock")):
        if not path.exists():
            _build(path)


def sqlite_path(uri: str) -> Path | None:
    """The file of a store such as `sqlite:///mlflow.db`, absolute; None for other stores."""
    if not uri.startswith("sqlite:///"):
        return None
    return Path(urllib.parse.unquote(uri.removeprefix("sqlite:///").split("?")[0])).absolute()


def artifact_location(uri: str, experiment: str) -> str | None:
    """Where an experiment's artifacts go: beside an SQLite file; None lets a server decide."""
    path = sqlite_path(uri)
    return None if path is None else (path.parent / "mlartifacts" / experiment).as_uri()


def _build(path: Path) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    for name in ("mlflow", "alembic"):  # sixty lines about migrations of an empty file
        logging.getLogger(name).setLevel(logging.WARNING)
    partial = path.with_name(f"{path.name}.partial-{os.getpid()}")
    store = SqlAlchemyStore(f"sqlite:///{partial}", (path.parent / "mlartifacts").as_uri())
    store.engine.dispose()
    connection = sqlite3.connect(partial)
    try:
        connection.execute("pragma journal_mode=wal")
    finally:
        connection.close()
    partial.replace(path)
