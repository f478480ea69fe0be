"""One MLflow run for one experiment: `with track(...) as log`. The only file that imports mlflow."""

import contextlib
import json
import logging
import os
import re
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from deq_core.experiment import distributed, provenance
from deq_core.experiment.config import flatten, plain, sections_read
from deq_core.experiment.files import require_writable, write_json
from deq_core.experiment.log import Log as Log
from deq_core.experiment.log import ignore as ignore
from deq_core.experiment.store import artifact_location, prepare, require_access, sqlite_path
from deq_core.experiment.written import files_of

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

_FLUSH_SECONDS = 10.0
_MANY, _FEW = 1000, 100  # metrics, and parameters or tags, that MLflow takes in one call
_NAME = re.compile(r"[\w\-. :/]+")
_RUN = "tracking.json"


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
        OutputError: `out` or the store cannot be written; there is no run then.
    """
    if distributed.rank() != 0:
        yield ignore
        return
    require_writable(out, folder=True)
    client = connect(write=True)
    entity = _unfinished(client, scratch) or _new(client, name, config, seed, parent_of)
    run = _Run(client, entity, scratch)
    run.begin({**provenance.of_files("dep", [*inputs, *([parent_of] if parent_of else [])]), **(tags or {})})
    try:
        yield run
    except BaseException as error:
        try:
            run.fail(error)
        except Exception as second:  # the first error is the one to show
            error.add_note(f"the tracking store could not be told: {second}")
        raise
    run.keep(config, out)
    run.close("FINISHED")


def find(path: Path) -> str | None:
    """The identity of the last run that wrote the file `path` as it is now, None where no run did."""
    client = connect()
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    run = _writer(client, experiments, path)
    return None if run is None else run.info.run_id


def connect(uri: str | None = None, *, write: bool = False) -> "MlflowClient":
    """A client of the store at `uri`, by default that of MLFLOW_TRACKING_URI, else mlflow.db in this folder.

    Raises:
        OutputError: a store in a file cannot be made, or is none; with `write`, it may not be written.
    """
    # MLflow reports usage over the network unless told not to
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    uri = uri or os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db"
    path = sqlite_path(uri)
    if path is not None:
        prepare(path, _create_tables)
        if write:
            require_access(path)
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=uri)


class _Run:
    """The run of this process: holds metrics back for some seconds and sends them together."""

    def __init__(self, client: "MlflowClient", run: "Run", scratch: Path | None):
        self.client, self.id, self.scratch = client, run.info.run_id, scratch
        self.held: list[Metric] = []
        self.sent = time.monotonic()
        self.last_steps = {key: self._last_step(key) for key in run.data.metrics}

    def begin(self, tags: Mapping[str, str]) -> None:
        self._mark({**provenance.of_process(), "params.sections": ",".join(sections_read()), **tags})
        if self.scratch is not None:
            write_json(self.scratch / _RUN, {"run": self.id})

    def __call__(self, values: Mapping[str, float], step: int = 0) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        for key, value in values.items():
            if key not in self.last_steps and not _NAME.fullmatch(key):
                raise ValueError(f"{key!r}: expected a name of letters, digits, spaces and _ - . : / alone")
            if step > self.last_steps.setdefault(key, -1):
                self.held.append(Metric(key, float(value), now, step))
        if time.monotonic() - self.sent > _FLUSH_SECONDS:
            try:
                self.flush()
            except Exception as error:  # a busy store must not end a training; `close` sends what is held, or raises
                warnings.warn(f"metrics held back, the tracking store did not take them: {error}", stacklevel=2)
                self.sent = time.monotonic()

    def flush(self) -> None:
        while self.held:
            self.client.log_batch(self.id, metrics=self.held[:_MANY])
            del self.held[:_MANY]
        self.sent = time.monotonic()

    def artifact(self, path: Path) -> None:
        self.client.log_artifact(self.id, str(path))

    def tag(self, key: str, value: str) -> None:
        self.client.set_tag(self.id, key, value)

    def keep(self, config: object, out: Path) -> None:
        """Copies what a reader of the run wants to see, and tags every file of `out`."""
        files = files_of(out)
        for path in files:
            if path.suffix in (".svg", ".png") or path.name == "metrics.json":
                self.artifact(path)
        with tempfile.TemporaryDirectory() as folder:
            write_json(Path(folder) / "config.json", plain(config))
            self.artifact(Path(folder) / "config.json")
        self._mark(provenance.of_files("out", files))

    def fail(self, error: BaseException) -> None:
        first_line = (str(error).splitlines() or [""])[0]
        self.tag("error", f"{type(error).__name__}: {first_line}"[:500])
        self.close("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")

    def close(self, status: str) -> None:
        self.flush()
        self.tag("params.sections", ",".join(sections_read()))
        self.client.set_terminated(self.id, status)
        if status == "FINISHED" and self.scratch is not None:
            (self.scratch / _RUN).unlink(missing_ok=True)

    def _mark(self, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        entries = [RunTag(key, value) for key, value in tags.items()]
        for start in range(0, len(entries), _FEW):
            self.client.log_batch(self.id, tags=entries[start : start + _FEW])

    def _last_step(self, key: str) -> int:
        return max(metric.step for metric in self.client.get_metric_history(self.id, key))


def _create_tables(path: Path) -> None:
    """Makes an MLflow store without runs in the SQLite file `path`."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    for name in ("mlflow", "alembic"):  # sixty lines about migrations of an empty file
        logging.getLogger(name).setLevel(logging.WARNING)
    SqlAlchemyStore(f"sqlite:///{path}", (path.parent / "mlartifacts").as_uri()).engine.dispose()


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


def _new(client: "MlflowClient", name: str, config: object, seed: int | None, parent_of: Path | None) -> "Run":
    from mlflow.entities import Param

    experiment = _experiment(client, re.split(r"[\W_]+", name.strip())[0])
    tags = {"mlflow.user": provenance.user(), **({} if seed is None else {"seed": str(seed)})}
    parent = _writer(client, [experiment], parent_of) if parent_of and parent_of.is_file() else None
    if parent is not None:
        tags["mlflow.parentRunId"] = parent.info.run_id
    stage = os.environ.get("DVC_STAGE", "")
    title = stage.replace("@", " ") or (name if seed is None else f"{name} seed {seed}")
    run = client.create_run(experiment, run_name=title, tags=tags)
    leaves = [Param(key, str(value)) for key, value in flatten(config).items()]
    for start in range(0, len(leaves), _FEW):
        client.log_batch(run.info.run_id, params=leaves[start : start + _FEW])
    return run


def _unfinished(client: "MlflowClient", scratch: Path | None) -> "Run | None":
    """The run that an earlier process left in `scratch`, running again, where this store still has it."""
    from mlflow.exceptions import MlflowException

    if scratch is None or not (scratch / _RUN).exists():
        return None
    left = json.loads((scratch / _RUN).read_text(encoding="utf-8"))["run"]
    try:
        run = client.get_run(left)
    except MlflowException:
        return None
    if run.info.lifecycle_stage != "active":
        return None
    client.update_run(left, status="RUNNING")
    if "error" in run.data.tags:
        client.delete_tag(left, "error")
    return run


def _writer(client: "MlflowClient", experiments: list[str], path: Path) -> "Run | None":
    """The last run among `experiments` whose output `path` had the content it has now."""
    query = f"tags.`out.{provenance.name_of(path)}` = '{provenance.md5(path)}'"
    found = client.search_runs(experiments, query, max_results=1, order_by=["attributes.start_time DESC"])
    return found[0] if found else None


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(find(Path(argument)) or f"no run wrote {argument} as it is now")
