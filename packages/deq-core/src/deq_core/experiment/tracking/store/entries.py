"""Records of runs, and their idempotent delivery to a store.

A record begins with a heading, from which the store creates the run. Entries follow, which are mappings with one of the
keys params, tags, inputs, metrics, file, resume or end.
"""

import json
import re
import sys
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypedDict

from deq_core.experiment.files import OutputError
from deq_core.experiment.tracking.store.keys import digest, key_of
from deq_core.experiment.tracking.store.processes import gone
from deq_core.experiment.tracking.store.sqlite_store import artifact_location, without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient as MlflowClient
    from mlflow.entities import Run as Run

Entry = Mapping[str, Any]

_MANY, _FEW = 1000, 100  # MLflow's limits per call: metrics; parameters or tags
_LONGEST_PARAMETER, _LONGEST_TAG = 6000, 8000  # characters of a value
_LONGEST_NAME, _LONGEST_RUN = 500, 250  # characters in the name of a dataset, and of a run
PROCESS = "process"
"""Tag with the process that a run belongs to."""
KEY = "run.key"
"""Tag that identifies a run begun by another process, or by this one while the store was unavailable."""

CPU, MEMORY = "system/cpu_seconds", "system/peak_memory_megabytes"
"""Metrics of a run's cost, shown separately by MLflow. For a resumed training, they cover its last process."""


class Heading(TypedDict):
    """The data from which a run is created."""

    key: str
    experiment: str
    name: str
    time: int
    """Start time in milliseconds since 1970."""
    tags: dict[str, str]
    model: dict[str, str]
    """Tag that identifies the parent: the run that wrote the model this one reads. Empty if there is no parent."""
    store: str
    """URI of the store, without password."""


def run_of(client: "MlflowClient", heading: Heading) -> "Run":
    """The run of a heading, created if it does not exist."""
    experiment = _experiment(client, heading["experiment"])
    found = client.search_runs([experiment], f"tags.`{KEY}` = '{heading['key']}'", max_results=1)
    if found:
        return found[0]
    tags = {**heading["tags"], KEY: heading["key"]}
    parent = writer(client, [experiment], heading["model"])
    if parent is not None:
        tags["mlflow.parentRunId"] = parent.info.run_id
    name = _storable(heading["name"], _LONGEST_RUN)
    return client.create_run(experiment, start_time=heading["time"], run_name=name, tags=tags)


def deliver(client: "MlflowClient", run: str, entry: Entry) -> None:
    """Sends an entry of the record of the run with ID `run` to the store."""
    from mlflow.entities import Dataset, DatasetInput, Metric, Param, RunTag

    match entry:
        case {"params": dict(values)}:
            known = client.get_run(run).data.params  # a resumed run has parameters
            params = [Param(name, value) for name, value in values.items() if name not in known]
            for start in range(0, len(params), _FEW):
                client.log_batch(run, params=params[start : start + _FEW])
        case {"tags": dict(values)}:
            tags = [RunTag(name, value) for name, value in values.items()]
            for start in range(0, len(tags), _FEW):
                client.log_batch(run, tags=tags[start : start + _FEW])
        case {"inputs": dict(data)}:
            datasets = [
                DatasetInput(Dataset(name[:_LONGEST_NAME], md5, "local", json.dumps({"uri": name})), [])
                for name, md5 in data.items()
            ]
            client.log_inputs(run, datasets)
        case {"metrics": list(rows)}:
            metrics = [Metric(name, float(value), time, step) for name, value, time, step in rows]
            for start in range(0, len(metrics), _MANY):
                client.log_batch(run, metrics=metrics[start : start + _MANY])
        case {"file": str(path)}:
            client.log_artifact(run, path)
        case {"resume": str(process)}:
            client.set_tag(run, PROCESS, process)
            client.update_run(run, status="RUNNING")
            if "error" in client.get_run(run).data.tags:
                client.delete_tag(run, "error")
        case {"end": str(status), "time": int(end)}:
            client.set_terminated(run, status, end)
        case _:
            raise ValueError(f"expected an entry of a run's record, got {entry}")


def params(values: Mapping[str, object]) -> Entry:
    """Entry with the parameters of a run. Names that are too long are cut; `tags` stores their full text."""
    return {"params": {key_of(name): _storable(str(value), _LONGEST_PARAMETER) for name, value in values.items()}}


def tags(values: Mapping[str, str], more: Iterable[str] = ()) -> Entry:
    """Entry with the tags of a run, and the full text of names, including `more`, that are too long for a key."""
    long = {f"name.{digest(name)}": name for name in (*values, *more) if "::" in key_of(name)}
    both = {**{key_of(name): value for name, value in values.items()}, **long}
    return {"tags": {name: _storable(value, _LONGEST_TAG) for name, value in both.items()}}


def end(status: str) -> Entry:
    """Entry that ends a run now, with one of MLflow's statuses FINISHED, FAILED and KILLED."""
    return {"end": status, "time": int(time.time() * 1000)}


def spent() -> list[tuple[str, float, int, int]]:
    """CPU time and peak memory of this process and its finished children, as metrics; empty on Windows."""
    try:
        import resource
    except ImportError:
        return []
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    unit = 1e6 if sys.platform == "darwin" else 1e6 / 1024  # bytes on macOS, kibibytes elsewhere
    values = {
        CPU: sum(one.ru_utime + one.ru_stime for one in used),
        MEMORY: max(one.ru_maxrss for one in used) / unit,
    }
    now = int(time.time() * 1000)
    return [(name, value, now, 0) for name, value in values.items()]


def steps(client: "MlflowClient", run: "Run") -> dict[str, list[int]]:
    """Steps of each metric of a run in the store."""
    history = client.get_metric_history
    return {name: [metric.step for metric in history(run.info.run_id, name)] for name in run.data.metrics}


def writer(client: "MlflowClient", experiments: list[str], written: Mapping[str, str]) -> "Run | None":
    """The last run in `experiments` whose output includes the files whose tags are `written`; None if there is none."""
    if not written:
        return None
    query = " and ".join(f"tags.`{key_of(name)}` = '{md5}'" for name, md5 in written.items())
    found = client.search_runs(experiments, query, max_results=1, order_by=["attributes.start_time DESC"])
    return found[0] if found else None


def close_abandoned(client: "MlflowClient") -> None:
    """Marks runs whose process has disappeared as killed."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    for run in client.search_runs(experiments, "attributes.status = 'RUNNING'"):
        if gone(run.data.tags.get(PROCESS, "")):
            now = client.get_run(run.info.run_id)  # it may have ended or resumed since
            if now.info.status == "RUNNING" and gone(now.data.tags.get(PROCESS, "")):
                client.set_terminated(run.info.run_id, "KILLED")


def experiment_of(name: str) -> str:
    """The experiment in a run's name, such as "flow" in "flow.train"."""
    return re.split(r"[\W_]+", name.strip())[0]


def _experiment(client: "MlflowClient", name: str) -> str:
    """ID of the experiment `name`, created if it does not exist.

    Raises:
        OutputError: the experiment was deleted, and MLflow reserves its name.
    """
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        # without this tag, MLflow 3 shows the experiment in its view for language models
        marks = {"mlflow.experimentKind": "custom_model_development"}
        try:
            return client.create_experiment(name, artifact_location(client.tracking_uri, name), marks)
        except MlflowException:
            found = client.get_experiment_by_name(name)  # another process was faster
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        store = without_password(client.tracking_uri)
        raise OutputError(
            f"{store}: the experiment {name} was deleted there and accepts no runs; restore it with "
            f"`MLFLOW_TRACKING_URI='{store}' mlflow experiments restore --experiment-id {found.experiment_id}`"
        )
    return found.experiment_id


def _storable(value: str, longest: int) -> str:
    """A text with surrogates (from names that are not UTF-8) escaped for the database, cut to `longest` characters."""
    return value.encode("utf-8", "backslashreplace").decode()[:longest]
