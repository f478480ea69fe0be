"""Tracks a block of code as one MLflow run: `with track(...) as log`."""

import contextlib
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from uuid import uuid4

from deq_core.experiment import distributed
from deq_core.experiment.config import flatten
from deq_core.experiment.files import OutputError, require_writable
from deq_core.experiment.tracking import provenance
from deq_core.experiment.tracking.log import Log as Log
from deq_core.experiment.tracking.log import ignore as ignore
from deq_core.experiment.tracking.recording import IDENTITY, Recording
from deq_core.experiment.tracking.store.connection import tracking_uri
from deq_core.experiment.tracking.store.entries import PROCESS, Heading, experiment_of
from deq_core.experiment.tracking.store.processes import this_process
from deq_core.experiment.tracking.store.sqlite_store import one_line, without_password


@contextlib.contextmanager
def track(
    name: str,
    config: object,
    *,
    out: Path,
    kind: str | None = None,
    case: Mapping[str, object] = MappingProxyType({}),
    seed: int | None = None,
    scratch: Path | None = None,
    tags: Mapping[str, str] | None = None,
    parent_of: Path | None = None,
    inputs: Sequence[Path] = (),
    data: Sequence[Path] = (),
) -> Iterator[Log]:
    """Tracks the block as one run in the MLflow server or file at MLFLOW_TRACKING_URI.

    Without that variable the store is mlflow.db in the working directory. The run has the configuration, seed, commit,
    versions, device, and the MD5 of inputs and outputs. On success the figures and metrics.json of `out` are uploaded;
    on failure the run's status is FAILED or KILLED.

    Args:
        name: pipeline and task, such as "flow.train". The pipeline is the MLflow experiment and a tag.
        config: dataclass or mapping whose leaves become the run's parameters.
        out: folder that the block writes; its files are tagged `out.<path>` with their MD5, as in dvc.lock.
        kind: "train", "evaluate", "baselines", "report" or "study", a tag; by default taken from the end of the name.
        case: values that tell this run from others of its name, such as method (or experiment) and seed; they become
            tags and part of the run's name.
        seed: random seed, if not in `case`.
        scratch: folder for the run's ID. A process that follows a killed one resumes that run and does not repeat steps
            already sent. The ID is kept out of `out`, which stays reproducible.
        tags: further tags.
        parent_of: file, such as the model that an evaluation reads; the run that wrote its content becomes the parent.
            If the file is missing, there is no parent, and the block has to report it.
        inputs: further files read, tagged `dep.<path>` with their MD5.
        data: files that identify data sets, such as manifest.json. They are inputs, and each folder is a dataset of
            the run.

    Raises:
        OutputError: `out` or the store cannot be written, or the ID in `scratch` is damaged. There is no run.

    An unavailable store (a server that does not answer, a file locked by another process) is no error: the run's record
    is kept in the folder mlflow-unsent, see `unsent.py`. This also holds for anything that the store rejects once the
    block has begun. Tracking never loses a result, and costs at most 20 seconds plus 5 % of the run's time.
    """
    if distributed.rank() != 0:
        yield ignore
        return
    require_writable(out, folder=True)
    models = [] if parent_of is None else [parent_of]
    model = provenance.of_files("out", models)
    labels = {**case, **({} if seed is None else {"seed": seed})}
    method = {} if "experiment" not in case else {"method": str(case["experiment"])}
    marks = {
        "pipeline": experiment_of(name),
        "kind": kind or _kind(name),
        **method,
        **{key: str(value) for key, value in labels.items() if key in ("method", "seed")},
        **{f"case.{key}": str(value) for key, value in case.items()},
        **({} if parent_of is None else {"model": provenance.name_of(parent_of)}),
        **provenance.of_files("dep", [*inputs, *models, *data]),
        **(tags or {}),
    }
    sets = {provenance.name_of(path.parent): provenance.md5(path) for path in data if path.is_file()}
    uri = tracking_uri()
    left = None if scratch is None else _identity(scratch / IDENTITY)
    run = Recording(uri, _heading(left or uuid4().hex, name, labels, model, uri), scratch)
    with one_line(uri):
        run.begin(flatten(config), marks, sets, resumes=left is not None)
    try:
        yield run
    except BaseException as error:
        run.fail(error)
        raise
    run.finish(config, out)


def _heading(key: str, name: str, labels: Mapping[str, object], model: Mapping[str, str], uri: str) -> Heading:
    """The heading of the run; for a resumed run, the store or an unsent record has it already."""
    words = [f"seed {value}" if key == "seed" else str(value) for key, value in labels.items()]
    stage = os.environ.get("DVC_STAGE", "").replace("@", " ")
    return Heading(
        key=key,
        experiment=experiment_of(name),
        name=stage or " ".join([name, *words]),
        time=int(time.time() * 1000),
        tags={"mlflow.user": provenance.user(), PROCESS: this_process()},
        model=dict(model),
        store=without_password(uri),
    )


def _kind(name: str) -> str:
    return next((kind for kind in ("train", "evaluate", "baselines", "report") if name.endswith(kind)), "study")


def _identity(path: Path) -> str | None:
    """The run's key in a file, None if there is no file.

    Raises:
        OutputError: the file has other content, for instance after a power cut.
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
        f"{path}: expected the ID of a run, got something else, perhaps after a power cut: remove that file, and the "
        "training continues with a new run"
    )
