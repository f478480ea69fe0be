"""The way to the tracking store: the server or file that MLFLOW_TRACKING_URI names."""

import contextlib
import gc
import logging
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from deq_core.experiment.tracking.sqlite_store import (
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
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # where a command's result is the last line
    # MLflow reports usage over the network unless told not to
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # by itself it takes minutes until it says that there is no server
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
}


def tracking_uri() -> str:
    """The address of the store, by default mlflow.db in this folder."""
    return os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"


def is_remote(uri: str) -> bool:
    """Whether a store is anything but a file."""
    return not uri.startswith(("sqlite:", "file:")) and "://" in uri


def connect(uri: str | None = None, *, write: bool = False) -> "MlflowClient":
    """A client of the store at `uri`, by default that of MLFLOW_TRACKING_URI, else mlflow.db in this folder.

    Raises:
        OutputError: a store in a file cannot be made, is none, or that of another version of MLflow; with `write`, it
            may not be written.
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
            uri = sqlite_uri(path) + "".join(uri.partition("?")[1:])  # MLflow remembers the folder it saw one in first
        from mlflow import MlflowClient

        # what it logs of a fault of its database, with a traceback, is in the error as well
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
        return MlflowClient(tracking_uri=uri)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Without garbage collection, which looks at all that is there time and again while MLflow is imported."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@cache
def _schema() -> tuple[str, set[str], str]:
    """The version of the tables that the installed MLflow expects, all that it has ever had, and its own."""
    import mlflow
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))
    newest = scripts.get_current_head() or ""
    return newest, {script.revision for script in scripts.walk_revisions()}, f"MLflow {mlflow.__version__}"


def _create_tables(path: Path, place: Path) -> None:
    """Makes an MLflow store without runs in the SQLite file `path`, which will lie in the folder `place`."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    for name in ("mlflow", "alembic"):  # sixty lines about migrations of an empty file
        logging.getLogger(name).setLevel(logging.WARNING)
    SqlAlchemyStore(sqlite_uri(path), (place / ARTIFACTS).as_uri()).engine.dispose()
