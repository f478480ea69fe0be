"""Connects to the tracking store, the server or file in MLFLOW_TRACKING_URI."""

import contextlib
import gc
import logging
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from deq_core.experiment.tracking.store.sqlite_store import (
    ARTIFACTS,
    one_line,
    prepare,
    require_access,
    require_schema,
    sqlite_path,
    sqlite_uri,
    take_artifacts_along,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

_SETTINGS = {
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # stdout ends with a command's result
    # MLflow reports usage over the network by default
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # by default MLflow takes minutes to report a missing server
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
}


def tracking_uri() -> str:
    """The URI of the store, by default mlflow.db in the working directory."""
    return os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"


def is_remote(uri: str) -> bool:
    """Whether a store is not a file."""
    return not uri.startswith(("sqlite:", "file:")) and "://" in uri


def connect(uri: str | None = None, *, write: bool = False) -> "MlflowClient":
    """A client of the store at `uri`, by default `tracking_uri()`.

    Raises:
        OutputError: a store in a file cannot be made, is not a store, or belongs to another version of MLflow; or
            `write` is set and the file is not writable.
    """
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    uri = uri or tracking_uri()
    with one_line(uri), _uncollected():
        path = sqlite_path(uri)
        if path is not None:
            prepare(path, lambda partial: _create_tables(partial, path.parent))
            require_schema(path, *_schema())
            take_artifacts_along(path)
            if write:
                require_access(path)
            uri = sqlite_uri(path) + "".join(uri.partition("?")[1:])  # MLflow caches relative paths
        from mlflow import MlflowClient

        # it logs database errors with a traceback, although it raises them as well
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
        return MlflowClient(tracking_uri=uri)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Disables garbage collection, which slows down the import of MLflow."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@cache
def _schema() -> tuple[str, set[str], str]:
    """Schema version that the installed MLflow expects, all schema versions that it knows, and its name and version."""
    import mlflow
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))
    newest = scripts.get_current_head() or ""
    return newest, {script.revision for script in scripts.walk_revisions()}, f"MLflow {mlflow.__version__}"


def _create_tables(path: Path, place: Path) -> None:
    """Makes an empty MLflow store in the SQLite file `path`, which will be moved to the folder `place`."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    for name in ("mlflow", "alembic"):  # they log sixty lines about migrations
        logging.getLogger(name).setLevel(logging.WARNING)
    SqlAlchemyStore(sqlite_uri(path), (place / ARTIFACTS).as_uri()).engine.dispose()
