"""The command that registers a network in MLflow; it reads no params.yaml."""

from typing import Annotated

from deq_core.experiment.commands import Positional, default, finish
from deq_core.experiment.tracking.models import called
from deq_core.experiment.tracking.models import register as register_model
from deq_sequence.demo.predict import interface_of
from deq_sequence.networks import SHIPPED, file_of, load, load_vocabulary


def register(
    checkpoint: Annotated[str, Positional],
    *,
    name: Annotated[str | None, default("deq-sequence- and the checkpoint's name")] = None,
    alias: Annotated[str | None, default("shipped or trained")] = None,
) -> None:
    """Registers a network in MLflow as models:/NAME@ALIAS, for `mlflow models serve` and `mlflow.pyfunc.load_model`.

    The model is logged with its weights, signature and input example, in a child run of the run that trained it. Input:
    the beginnings of texts. Output: texts. Parameters: length, temperature, top_p and seed.

    Args:
        checkpoint: a folder written by training, a weights file (.safetensors), or a shipped name such as default.
        name: registered name; each registration is a new version.
        alias: alias of this version.
    """
    weights = file_of(checkpoint)
    vocabulary = load_vocabulary(weights, load(weights))
    registered = register_model(
        weights,
        **called("deq-sequence", checkpoint, SHIPPED, name, alias),
        pipeline="sequence",
        predictor="deq_sequence.demo.predict",
        interface=interface_of(vocabulary),
    )
    print(registered)
    finish({"version": registered.version})
