"""One MLflow run for one experiment: `with track(...) as log`. This file and `recording.py` alone import mlflow."""

import contextlib
import json
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deq_core.experiment import distributed
from deq_core.experiment.config import flatten
from deq_core.experiment.files import OutputError, require_writable
from deq_core.experiment.tracking import provenance
from deq_core.experiment.tracking.keys import key_of
from deq_core.experiment.tracking.log import Log as Log
from deq_core.experiment.tracking.log import ignore as ignore
from deq_core.experiment.tracking.processes import gone, this_process
from deq_core.experiment.tracking.recording import IDENTITY, PROCESS, Recording
from deq_core.experiment.tracking.sqlite_store import (
    artifact_location,
    one_line,
    prepare,
    require_access,
    require_schema,
    sqlite_path,
    sqlite_uri,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_SERVER = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
"""How long a server is waited for: MLflow's own settings take minutes until they say that there is none."""


@contextlib.contextmanager
def track(
    name: str,
    config: object,
    *,
    out: Path,
    seed: int | None = None,
    scratch: Path | None = None,
    tags: Mapping[str, str] | None = None,
    parent_of: Path | None = None,
    inputs: Sequence[Path] = (),
) -> Iterator[Log]:
    """Records what happens within the block as one run of the MLflow server or file at MLFLOW_TRACKING_URI.

    Without that variable the store is mlflow.db in the working directory. The run lists the configuration, seed,
    commit, versions, device and the MD5 of inputs and outputs; on success it keeps the figures and metrics.json of
    `out`; on failure its status says so.

    Args:
        name: of the experiment's kind, such as "flow.train"; its first word is the MLflow experiment.
        config: dataclass or mapping whose leaves become the run's parameters.
        out: the folder that the block writes; its files are tagged `out.<path>` with their MD5, as in dvc.lock.
        seed: the random seed.
        scratch: where a killed process leaves the run's identity; the next one then continues that run, and steps
            it has already are not sent again. The identity is no part of `out`, which stays reproducible.
        tags: further tags.
        parent_of: a file, such as the model an evaluation reads: the run that wrote this content becomes the parent.
            Where there is no such file, there is no parent: that is for the block to say, which reads it.
        inputs: further files read, tagged `dep.<path>` with their MD5.

    Raises:
        OutputError: `out` or the store cannot be written, or the identity in `scratch` is damaged: there is no run.
            Once the block has begun, faults of the store are warnings: bookkeeping never costs a result.
    """
    if distributed.rank() != 0:
        yield ignore
        return
    require_writable(out, folder=True)
    models = [] if parent_of is None else [parent_of]
    model = provenance.of_files("out", models)
    files = {**provenance.of_files("dep", [*inputs, *models]), **(tags or {})}
    uri = _uri()
    with one_line(uri):
        client = connect(uri, write=True)
        _close_abandoned(client)
        entity = _unfinished(client, scratch) or _new(client, name, seed, model)
        run = Recording(client, entity, scratch)
        run.begin(flatten(config), files)
    try:
        yield run
    except BaseException as error:
        run.fail(error)
        raise
    run.finish(config, out)


def find(path: Path) -> str | None:
    """The identity of the last run that wrote the file `path` as it is now, None where no run did."""
    written = provenance.of_files("out", [path])
    with one_line(_uri()):
        client = connect()
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        run = _writer(client, experiments, written)
    return None if run is None else run.info.run_id


def connect(uri: str | None = None, *, write: bool = False) -> "MlflowClient":
    """A client of the store at `uri`, by default that of MLFLOW_TRACKING_URI, else mlflow.db in this folder.

    Raises:
        OutputError: a store in a file cannot be made, is none, or that of another version of MLflow; with `write`, it
            may not be written.
    """
    # MLflow reports usage over the network unless told not to
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    for name, value in _SERVER.items():
        os.environ.setdefault(name, value)
    uri = uri or _uri()
    with one_line(uri):
        path = sqlite_path(uri)
        if path is not None:
            prepare(path, lambda partial: _create_tables(partial, path.parent))
            require_schema(path, *_schema())
            if write:
                require_access(path)
            uri = sqlite_uri(path) + "".join(uri.partition("?")[1:])  # MLflow remembers the folder it saw one in first
        from mlflow import MlflowClient

        # what it logs of a fault of its database, with a traceback, is in the error as well
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
        return MlflowClient(tracking_uri=uri)


def _uri() -> str:
    return os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"


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
    SqlAlchemyStore(sqlite_uri(path), (place / "mlartifacts").as_uri()).engine.dispose()


def _experiment(client: "MlflowClient", name: str) -> str:
    """The identity of experiment `name`, which is made where it is not there yet."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        # without the tag, MLflow 3 opens the experiment as one of language models
        tags = {"mlflow.experimentKind": "custom_model_development"}
        try:
            return client.create_experiment(name, artifact_location(client.tracking_uri, name), tags)
        except MlflowException:
            found = client.get_experiment_by_name(name)  # another process was faster
            if found is None:
                raise
    return found.experiment_id


def _new(client: "MlflowClient", name: str, seed: int | None, model: Mapping[str, str]) -> "Run":
    experiment = _experiment(client, re.split(r"[\W_]+", name.strip())[0])
    tags = {"mlflow.user": provenance.user(), PROCESS: this_process(), **({} if seed is None else {"seed": str(seed)})}
    parent = _writer(client, [experiment], model)
    if parent is not None:
        tags["mlflow.parentRunId"] = parent.info.run_id
    stage = os.environ.get("DVC_STAGE", "")
    title = stage.replace("@", " ") or (name if seed is None else f"{name} seed {seed}")
    return client.create_run(experiment, run_name=title, tags=tags)


def _unfinished(client: "MlflowClient", scratch: Path | None) -> "Run | None":
    """The run that an earlier process left in `scratch`, running again, where this store still has it."""
    from mlflow.exceptions import MlflowException

    left = _identity(scratch / IDENTITY) if scratch is not None else None
    if left is None:
        return None
    try:
        run = client.get_run(left)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    if run.info.lifecycle_stage != "active":
        return None
    client.set_tag(left, PROCESS, this_process())
    client.update_run(left, status="RUNNING")
    if "error" in run.data.tags:
        client.delete_tag(left, "error")
    return run


def _identity(path: Path) -> str | None:
    """The run named in a file, None where there is no file.

    Raises:
        OutputError: it names none, as after a power cut.
    """
    try:
        text = path.read_text(encoding="utf-8")
        left = json.loads(text)["run"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        left = None
    if isinstance(left, str) and re.fullmatch(r"\w{1,256}", left):
        return left
    raise OutputError(
        f"{path}: expected the identity of a run, got something else, as a power cut leaves it: remove that file, and "
        "the training goes on with a new run"
    )


def _close_abandoned(client: "MlflowClient") -> None:
    """Marks runs whose process is gone as killed: it can no longer do so itself."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    for run in client.search_runs(experiments, "attributes.status = 'RUNNING'"):
        if gone(run.data.tags.get(PROCESS, "")):
            now = client.get_run(run.info.run_id)  # it may have ended since, or be continued
            if now.info.status == "RUNNING" and gone(now.data.tags.get(PROCESS, "")):
                client.set_terminated(run.info.run_id, "KILLED")


def _writer(client: "MlflowClient", experiments: list[str], written: Mapping[str, str]) -> "Run | None":
    """The last run among `experiments` whose output had the name and content of a file, given as its tag."""
    if not written:
        return None
    query = " and ".join(f"tags.`{key_of(name)}` = '{digest}'" for name, digest in written.items())
    found = client.search_runs(experiments, query, max_results=1, order_by=["attributes.start_time DESC"])
    return found[0] if found else None


if __name__ == "__main__":
    try:
        for argument in sys.argv[1:]:
            print(find(Path(argument)) or f"no run wrote {argument} as it is now")
    except OutputError as error:
        sys.exit(str(error))
