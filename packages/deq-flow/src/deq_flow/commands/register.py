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
    """Registers a network in MLflow, as models:/NAME@ALIAS, which `mlflow models serve` and `load_model` take.

    It is logged with a copy of its weights, signature and example, in a run of its own below the one that trained it.
    It takes image1 and image2, float32 (b, 3, h, w) of values 0 to 255, and gives flow, (b, 2, h, w) in pixels.

    Args:
        checkpoint: a folder that training wrote, a .safetensors file, or a name that ships, such as default.
        name: in the registry; every registration is a new version of it.
        alias: of this version.
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
