"""Networks as models of MLflow, which `mlflow models serve` and `mlflow.pyfunc.load_model` take."""

import re
import shutil
import time
import warnings
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from importlib import metadata
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import uuid4

from deq_core.experiment.config import ConfigError
from deq_core.experiment.errors import CheckpointError
from deq_core.experiment.tracking import entries, provenance
from deq_core.experiment.tracking.connection import connect, tracking_uri
from deq_core.experiment.tracking.entries import PROCESS, Heading, deliver, run_of
from deq_core.experiment.tracking.processes import this_process
from deq_core.experiment.tracking.sqlite_store import one_line, without_password

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

WEIGHTS = "model.safetensors"
"""What weights are called in the folder that predictors load, whatever their own file is called."""
Array: TypeAlias = tuple[str, tuple[int, ...]]
"""Type and shape of an array; an axis of -1 is of any length."""


@dataclass(frozen=True, kw_only=True)
class Interface:
    """What a model takes and gives."""

    inputs: Mapping[str, Array] | None
    """Arrays by name; None: texts."""
    outputs: Mapping[str, Array] | None
    """Likewise; None: texts."""
    example: Any
    """Inputs that it can be tried with."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Options of a prediction, and their defaults."""


@dataclass(frozen=True, kw_only=True)
class Registration:
    """A model in MLflow's registry: `models:/NAME@ALIAS`."""

    name: str
    alias: str
    version: int
    run: str

    def __str__(self) -> str:
        return f"models:/{self.name}@{self.alias}, version {self.version}, of run {self.run}"


def called(program: str, checkpoint: str, ships: Container[str], name: str | None, alias: str | None) -> dict[str, str]:
    """Name and alias of a program's checkpoint in the registry, where they are not given: those of `register`.

    Raises:
        ConfigError: MLflow takes no such name or alias, the latter after it has registered the model.
    """
    shipped, place = checkpoint in ships, Path(checkpoint).resolve()
    named = place.parent if place.name == WEIGHTS else place
    own = checkpoint if shipped else named.name.removesuffix(".safetensors")
    name, alias = name or f"{program}-{own}", alias or ("shipped" if shipped else "trained")
    if not name.strip(" .") or "/" in name or ":" in name:
        raise ConfigError(f"--name: expected one for the registry, without / and :, got {name!r}")
    if not re.fullmatch(r"[\w-]{1,255}", alias) or re.fullmatch(r"latest|v\d+", alias, re.IGNORECASE):
        raise ConfigError(
            f"--alias: expected letters, digits, - and _, and neither latest nor v1, which are MLflow's, got {alias!r}"
        )
    return {"name": name, "alias": alias}


def register(
    weights: Path, *, name: str, alias: str, pipeline: str, predictor: str, interface: Interface
) -> Registration:
    """Logs a network as a model of MLflow's, in a run of its own, and registers it.

    The run is a child of the one that wrote the weights. The model has a copy of the checkpoint's files; training runs
    have none, since DVC keeps what they write.

    Args:
        weights: a .safetensors file, with what belongs to it in the same folder.
        name: in the registry.
        alias: of this version; an earlier version loses it.
        pipeline: whose experiment the run is in.
        predictor: the module whose `Predictor(folder)` is called with the inputs.
        interface: what it takes and gives.

    Raises:
        CheckpointError: the weights are in another format, which may hold code.
        OutputError: the store cannot be written.
    """
    if weights.suffix != ".safetensors":
        raise CheckpointError(f"{weights}: expected a .safetensors file; `convert` makes one of a released file")
    beside = [path for path in weights.parent.glob("*.json") if path.name in ("config.json", "vocabulary.json")]
    files = [weights, *beside]
    uri = tracking_uri()
    with one_line(uri), TemporaryDirectory() as folder:
        client = connect(uri, write=True)
        place = Path(folder) / "checkpoint"
        place.mkdir()
        for file in files:
            shutil.copyfile(file, place / (WEIGHTS if file == weights else file.name))
        heading = Heading(
            key=uuid4().hex,
            experiment=pipeline,
            name=f"{pipeline}.register {name}@{alias}",
            time=int(time.time() * 1000),
            tags={"mlflow.user": provenance.user(), PROCESS: this_process()},
            model=provenance.of_files("out", [weights]),
            store=without_password(uri),
        )
        run = run_of(client, heading).info.run_id
        marks = {"pipeline": pipeline, "kind": "register", "model": provenance.name_of(weights)}
        marks |= provenance.of_process() | provenance.of_files("dep", files)
        deliver(client, run, entries.tags(marks))
        version = _log(client.tracking_uri, run, place, name, predictor, interface)
        client.set_registered_model_alias(name, alias, str(version))
    return Registration(name=name, alias=alias, version=version, run=run)


def _log(uri: str, run: str, folder: Path, name: str, predictor: str, interface: Interface) -> int:
    import mlflow

    with _silent(), _store(uri), mlflow.start_run(run_id=run):
        logged = mlflow.pyfunc.log_model(
            name="model",
            registered_model_name=name,
            python_model=str(Path(__file__).with_name("served.py")),
            artifacts={"checkpoint": folder.as_uri()},
            model_config={"predictor": predictor},
            signature=_signature(interface),
            input_example=interface.example,
            pip_requirements=_requirements(predictor),
        )
    return int(logged.registered_model_version or 0)


def _signature(interface: Interface) -> "ModelSignature":
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec

    def schema(arrays: Mapping[str, Array] | None) -> Schema:
        if arrays is None:
            return Schema([ColSpec(DataType.string)])
        return Schema([TensorSpec(np.dtype(kind), shape, name) for name, (kind, shape) in arrays.items()])

    kinds = {int: DataType.long, float: DataType.double, str: DataType.string}
    params = ParamSchema([ParamSpec(name, kinds[type(value)], value) for name, value in interface.params.items()])
    return ModelSignature(schema(interface.inputs), schema(interface.outputs), params)


def _requirements(predictor: str) -> Sequence[str]:
    """What the model needs, in the versions that are here: the package it is of, and torch."""
    package = predictor.partition(".")[0].replace("_", "-")
    return [f"{one}=={metadata.version(one)}" for one in (package, "deq-core", "mlflow")] + [
        f"torch=={metadata.version('torch').partition('+')[0]}"
    ]


@contextmanager
def _store(uri: str) -> Iterator[None]:
    """MLflow's functions on models know no store but the one of the process."""
    import mlflow

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)


@contextmanager
def _silent() -> Iterator[None]:
    """Without what MLflow tells of each step, and what it advises."""
    with redirect_stderr(StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
