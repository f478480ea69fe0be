"""One MLflow run for one experiment: `with track(...) as log`."""

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
from deq_core.experiment.tracking.connection import tracking_uri
from deq_core.experiment.tracking.entries import PROCESS, Heading, experiment_of
from deq_core.experiment.tracking.log import Log as Log
from deq_core.experiment.tracking.log import ignore as ignore
from deq_core.experiment.tracking.processes import this_process
from deq_core.experiment.tracking.recording import IDENTITY, Recording
from deq_core.experiment.tracking.sqlite_store import one_line, without_password


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
    """Records what happens within the block as one run of the MLflow server or file at MLFLOW_TRACKING_URI.

    Without that variable the store is mlflow.db in the working directory. The run lists the configuration, seed,
    commit, versions, device and the MD5 of inputs and outputs; on success it keeps the figures and metrics.json of
    `out`; on failure its status says so.

    Args:
        name: such as "flow.train": the pipeline, which is the MLflow experiment and a tag, and what is done there.
        kind: "train", "evaluate", "baselines", "report" or "study", a tag; by default the one that the name ends with.
        case: what tells this run from others of its name, such as method (or experiment) and seed: tags and
            part of the run's name.
        config: dataclass or mapping whose leaves become the run's parameters.
        out: the folder that the block writes; its files are tagged `out.<path>` with their MD5, as in dvc.lock.
        seed: the random seed, where it is no part of the case.
        scratch: where a killed process leaves the run's identity; the next one then continues that run, and steps
            it has already are not sent again. The identity is no part of `out`, which stays reproducible.
        tags: further tags.
        parent_of: a file, such as the model an evaluation reads: the run that wrote this content becomes the parent.
            Where there is no such file, there is no parent: that is for the block to say, which reads it.
        inputs: further files read, tagged `dep.<path>` with their MD5.
        data: files that tell data sets apart, such as their manifest.json: inputs, and each folder is a dataset of the
            run.

    Raises:
        OutputError: `out` or the store cannot be written, or the identity in `scratch` is damaged: there is no run.

    A store that is away, as a server that does not answer or a file that another process holds, is no error: the run's
    record is kept in the folder mlflow-unsent, see `unsent.py`. So is what a store does not take once the block has
    begun. Bookkeeping never costs a result, nor more than 20 seconds and a twentieth of the run's time.
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
    """What the run is made from; a run that is continued is there already, or its record that nobody has taken."""
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
