"""Registers networks as MLflow models, for `mlflow models serve` and `mlflow.pyfunc.load_model`."""

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
from deq_core.experiment.tracking import provenance
from deq_core.experiment.tracking.store import entries
from deq_core.experiment.tracking.store.connection import connect, tracking_uri
from deq_core.experiment.tracking.store.entries import PROCESS, Heading, deliver, run_of
from deq_core.experiment.tracking.store.processes import this_process
from deq_core.experiment.tracking.store.sqlite_store import one_line, without_password

if TYPE_CHECKING:
    from mlflow.models import ModelSignature

WEIGHTS = "model.safetensors"
"""Name of the weights in the folder that predictors load, whatever the original file's name."""
Array: TypeAlias = tuple[str, tuple[int, ...]]
"""Dtype and shape of an array; -1 stands for any length."""


@dataclass(frozen=True, kw_only=True)
class Interface:
    """Inputs, outputs and options of a model."""

    inputs: Mapping[str, Array] | None
    """Arrays by name; None for strings."""
    outputs: Mapping[str, Array] | None
    """Arrays by name; None for strings."""
    example: Any
    """Example inputs."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Options of a prediction with their defaults."""


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
    """Arguments `name` and `alias` of `register` for a program's checkpoint, with defaults if not given.

    Raises:
        ConfigError: MLflow would reject the name, or the alias (which it checks only after registering the model).
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
    """Logs a network as an MLflow model in a new run, and registers it.

    The run is a child of the one that wrote the weights. The model has a copy of the checkpoint's files; training runs
    have none, since DVC stores their outputs.

    Args:
        weights: .safetensors file, with its config.json and vocabulary.json, if any, in the same folder.
        name: name in the registry.
        alias: alias of this version; an earlier version loses it.
        pipeline: pipeline whose experiment gets the run.
        predictor: module with the class `Predictor`; `Predictor(folder)` is called with the inputs.
        interface: inputs, outputs and options of the model.

    Raises:
        CheckpointError: the weights have another format, which may contain code.
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
    """Requirements of the model in their installed versions: its package, deq-core, MLflow and torch."""
    package = predictor.partition(".")[0].replace("_", "-")
    return [f"{one}=={metadata.version(one)}" for one in (package, "deq-core", "mlflow")] + [
        f"torch=={metadata.version('torch').partition('+')[0]}"
    ]


@contextmanager
def _store(uri: str) -> Iterator[None]:
    """Sets the process-wide store in the block, since MLflow's functions for models use no other."""
    import mlflow

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(before)


@contextmanager
def _silent() -> Iterator[None]:
    """Silences MLflow's progress messages and warnings."""
    with redirect_stderr(StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
