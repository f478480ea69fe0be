"""The command that puts a network into MLflow's registry. It is no experiment, and knows no params.yaml."""

from typing import Annotated

from deq_core.experiment.commands import Positional, default, finish
from deq_core.experiment.tracking.models import called
from deq_core.experiment.tracking.models import register as register_model
from deq_sequence.demo.predict import interface_of
from deq_sequence.networks import SHIPPED, load, load_vocabulary, located


def register(
    checkpoint: Annotated[str, Positional],
    *,
    name: Annotated[str | None, default("deq-sequence- and the checkpoint's name")] = None,
    alias: Annotated[str | None, default("shipped or trained")] = None,
) -> None:
    """Registers a network in MLflow, as models:/NAME@ALIAS, which `mlflow models serve` and `load_model` take.

    It is logged with a copy of its weights, signature and example, in a run of its own below the one that trained it.
    It takes beginnings of texts and gives texts; length, temperature, top_p and seed are its parameters.

    Args:
        checkpoint: a folder that training wrote, a .safetensors file, or a name that ships, such as default.
        name: in the registry; every registration is a new version of it.
        alias: of this version.
    """
    weights = located(checkpoint)
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
