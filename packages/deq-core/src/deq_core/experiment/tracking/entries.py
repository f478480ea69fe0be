"""What a run's record consists of, and how a store is told: telling it the same again changes nothing.

A record begins with its heading, from which a store makes the run; then come entries, mappings with one key:
params, tags, inputs, metrics, file, resume or end.
"""

import json
import re
import sys
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypedDict

from deq_core.experiment.files import OutputError
from deq_core.experiment.tracking.keys import digest, key_of
from deq_core.experiment.tracking.processes import gone
from deq_core.experiment.tracking.sqlite_store import artifact_location, without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient as MlflowClient
    from mlflow.entities import Run as Run

Entry = Mapping[str, Any]

_MANY, _FEW = 1000, 100  # metrics, and parameters or tags, that MLflow takes in one call
_LONGEST_PARAMETER, _LONGEST_TAG = 6000, 8000  # characters of a value
_LONGEST_NAME, _LONGEST_RUN = 500, 250  # of a dataset, and of a run
PROCESS = "process"
"""The tag that names the process a run belongs to."""
KEY = "run.key"
"""The tag by which a run is found that another process, or this one while the store was away, has begun."""

CPU, MEMORY = "system/cpu_seconds", "system/peak_memory_megabytes"
"""Metrics: what a run cost, which MLflow shows apart below `system/`. Of an interrupted training, its last process."""


class Heading(TypedDict):
    """What a run is made from."""

    key: str
    experiment: str
    name: str
    time: int
    """When it began, in milliseconds since 1970."""
    tags: dict[str, str]
    model: dict[str, str]
    """The tag of the run that wrote what this one reads, which is its parent; empty where it has none."""
    store: str
    """The address of the store, without a password."""


def run_of(client: "MlflowClient", heading: Heading) -> "Run":
    """The run of a heading, which is made where it is not there yet."""
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
    """Tells the store an entry of the record of the run of that identity."""
    from mlflow.entities import Dataset, DatasetInput, Metric, Param, RunTag

    match entry:
        case {"params": dict(values)}:
            known = client.get_run(run).data.params  # a run that is continued has its own
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
    """The parameters of a run; the whole of names that are too long is in tags, see `tags`."""
    return {"params": {key_of(name): _storable(str(value), _LONGEST_PARAMETER) for name, value in values.items()}}


def tags(values: Mapping[str, str], more: Iterable[str] = ()) -> Entry:
    """Marks of a run, and the whole of names of theirs, and of `more`, that are too long for a key."""
    long = {f"name.{digest(name)}": name for name in (*values, *more) if "::" in key_of(name)}
    both = {**{key_of(name): value for name, value in values.items()}, **long}
    return {"tags": {name: _storable(value, _LONGEST_TAG) for name, value in both.items()}}


def end(status: str) -> Entry:
    """That a run has ended, now, in one of MLflow's ways: FINISHED, FAILED, KILLED."""
    return {"end": status, "time": int(time.time() * 1000)}


def spent() -> list[tuple[str, float, int, int]]:
    """What this process and those it has waited for have used, as metrics; none on Windows, which does not say it."""
    try:
        import resource
    except ImportError:
        return []
    used = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    unit = 1e6 if sys.platform == "darwin" else 1e6 / 1024  # bytes there, kibibytes elsewhere
    values = {
        CPU: sum(one.ru_utime + one.ru_stime for one in used),
        MEMORY: max(one.ru_maxrss for one in used) / unit,
    }
    now = int(time.time() * 1000)
    return [(name, value, now, 0) for name, value in values.items()]


def steps(client: "MlflowClient", run: "Run") -> dict[str, list[int]]:
    """The steps of each metric that the store has of a run."""
    history = client.get_metric_history
    return {name: [metric.step for metric in history(run.info.run_id, name)] for name in run.data.metrics}


def writer(client: "MlflowClient", experiments: list[str], written: Mapping[str, str]) -> "Run | None":
    """The last run among `experiments` whose output had the name and content of a file, given as its tag."""
    if not written:
        return None
    query = " and ".join(f"tags.`{key_of(name)}` = '{md5}'" for name, md5 in written.items())
    found = client.search_runs(experiments, query, max_results=1, order_by=["attributes.start_time DESC"])
    return found[0] if found else None


def close_abandoned(client: "MlflowClient") -> None:
    """Marks runs whose process is gone as killed: it can no longer do so itself."""
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    for run in client.search_runs(experiments, "attributes.status = 'RUNNING'"):
        if gone(run.data.tags.get(PROCESS, "")):
            now = client.get_run(run.info.run_id)  # it may have ended since, or be continued
            if now.info.status == "RUNNING" and gone(now.data.tags.get(PROCESS, "")):
                client.set_terminated(run.info.run_id, "KILLED")


def experiment_of(name: str) -> str:
    """The experiment of a run's name: "flow" of "flow.train"."""
    return re.split(r"[\W_]+", name.strip())[0]


def _experiment(client: "MlflowClient", name: str) -> str:
    """The identity of experiment `name`, which is made where it is not there yet.

    Raises:
        OutputError: somebody has deleted it, and MLflow keeps its name for it.
    """
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    if found is None:
        # without the tag, MLflow 3 opens the experiment as one of language models
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
            f"{store}: the experiment {name} was deleted there, so that it takes no runs; bring it back by "
            f"`MLFLOW_TRACKING_URI='{store}' mlflow experiments restore --experiment-id {found.experiment_id}`"
        )
    return found.experiment_id


def _storable(value: str, longest: int) -> str:
    """A text without surrogates, which stand for bytes that are no UTF-8 and no database takes; cut if too long."""
    return value.encode("utf-8", "backslashreplace").decode()[:longest]
