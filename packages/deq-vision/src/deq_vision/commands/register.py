"""The command that puts a network into MLflow's registry. It is no experiment, and knows no params.yaml."""

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
    """Registers a network in MLflow, as models:/NAME@ALIAS, which `mlflow models serve` and `load_model` take.

    It is logged with a copy of its weights, signature and example, in a run of its own below the one that trained it.
    It takes images, uint8 (b, 3, h, w), and gives class and probabilities, mask, or boxes, scores, classes and the
    image of each box.

    Args:
        checkpoint: a folder that training wrote, a .safetensors file, or a name that ships: digits, street, detect.
        name: in the registry; every registration is a new version of it.
        alias: of this version.
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
