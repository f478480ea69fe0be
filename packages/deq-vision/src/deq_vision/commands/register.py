"""The command that registers a network in MLflow; it reads no params.yaml."""

from typing import Annotated

from deq_core.experiment.commands import Positional, default, finish
from deq_core.experiment.tracking.models import called
from deq_core.experiment.tracking.models import register as register_model
from deq_vision.demo.predict import interface_of
from deq_vision.models.build import file_of, load
from deq_vision.models.shipped import SHIPPED


def register(
    checkpoint: Annotated[str, Positional],
    *,
    name: Annotated[str | None, default("deq-vision- and the checkpoint's name")] = None,
    alias: Annotated[str | None, default("shipped or trained")] = None,
) -> None:
    """Registers a network in MLflow as models:/NAME@ALIAS, for `mlflow models serve` and `mlflow.pyfunc.load_model`.

    The model is logged with its weights, signature and input example, in a child run of the run that trained it. Input:
    images, uint8 (b, 3, h, w). Output: class and probabilities; or a mask; or boxes with scores, classes and the index
    of their image.

    Args:
        checkpoint: a folder written by training, a weights file (.safetensors), or a shipped name: digits, street,
            detect.
        name: registered name; each registration is a new version.
        alias: alias of this version.
    """
    weights = file_of(checkpoint)
    registered = register_model(
        weights,
        **called("deq-vision", checkpoint, SHIPPED, name, alias),
        pipeline="vision",
        predictor="deq_vision.demo.predict",
        interface=interface_of(load(weights)),
    )
    print(registered)
    finish({"version": registered.version})
