"""The command that puts a network into MLflow's registry. It is no experiment, and knows no params.yaml."""

from typing import Annotated

from deq_core.experiment.commands import Positional, default, finish
from deq_core.experiment.tracking.models import called
from deq_core.experiment.tracking.models import register as register_model
from deq_flow.demo.predict import INTERFACE
from deq_flow.networks import SHIPPED, file_of


def register(
    checkpoint: Annotated[str, Positional],
    *,
    name: Annotated[str | None, default("deq-flow- and the checkpoint's name")] = None,
    alias: Annotated[str | None, default("shipped or trained")] = None,
) -> None:
    """Registers a network in MLflow as models:/NAME@ALIAS, for `mlflow models serve` and `mlflow.pyfunc.load_model`.

    The model is logged with its weights, signature and input example, in a child run of the run that trained it.
    Inputs: image1 and image2, float32 (b, 3, h, w), values 0 to 255. Output: flow, (b, 2, h, w), in pixels.

    Args:
        checkpoint: a folder written by training, a weights file (.safetensors), or a shipped name such as default.
        name: registered name; each registration is a new version.
        alias: alias of this version.
    """
    weights = file_of(checkpoint)
    registered = register_model(
        weights,
        **called("deq-flow", checkpoint, SHIPPED, name, alias),
        pipeline="flow",
        predictor="deq_flow.demo.predict",
        interface=INTERFACE,
    )
    print(registered)
    finish({"version": registered.version})
