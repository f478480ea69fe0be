"""Builds models by name, and loads and saves them."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from deq_core.experiment import config
from deq_core.experiment.checkpoints import checkpoint
from deq_core.experiment.config.layer import LayerConfig
from deq_vision.config import Architecture, Equilibrium, ModelConfig
from deq_vision.models.compat.convert import load_released
from deq_vision.models.mdeq import MDEQ
from deq_vision.models.shipped import SHIPPED
from deq_vision.models.variants import VARIANTS

NAMES = tuple(VARIANTS)
"""Names that `build` accepts."""


def build(name: str, **overrides: Any) -> MDEQ:
    """Returns a freshly initialised model; `name` is one of `NAMES`, also in the release's spelling (cifar_TINY).

    overrides are fields of `Architecture` (channels, dropout, head), `classes` of its head, and fields of `Equilibrium`
    (solver, stop, eval_stop, adjoint, numerics, on_failure). A stop without an eval_stop also applies in evaluation.

    Raises:
        ValueError: an unknown name or override; the message lists the known ones.
        TypeError: `solver`, `stop` or `adjoint` is not such an object.
    """
    variant = VARIANTS.get(name.lower().replace("_", "-"))
    if variant is None:
        raise ValueError(f"unknown model {name!r}; known are {', '.join(NAMES)}")
    of_size = {field.name for field in fields(Architecture)}
    of_layer = {field.name for field in fields(Equilibrium)}
    if unknown := sorted(overrides.keys() - of_size - of_layer - {"classes"}):
        known = ", ".join(sorted(of_size | of_layer | {"classes"}))
        raise ValueError(f"{name} has no option {', '.join(unknown)}; it has {known}")
    size = replace(variant.architecture, **{key: overrides[key] for key in overrides.keys() & of_size})
    if "classes" in overrides:
        size = size.with_classes(overrides["classes"])
    return MDEQ(size, solved(variant.equilibrium, {key: overrides[key] for key in overrides.keys() & of_layer}))


def load(path: Path | str, *, variant: str | None = None, **overrides: Any) -> MDEQ:
    """Loads a trained model in evaluation mode.

    Args:
        path: a model.safetensors with its config.json beside it, or their folder; an official checkpoint (.pth or
            .pth.tar), whose variant is inferred from names and shapes; or the name of a checkpoint in this package.
        variant: the released variant in a .pth file, where two have the same names and shapes: cifar-large, the
            default, and cifar-large-reg differ only in dropout and solver.
        **overrides: fields of `Equilibrium`: solver, stop, eval_stop, adjoint, numerics, on_failure. A stop without an
            eval_stop also applies in evaluation.

    Raises:
        CheckpointError: the file or name does not exist, or the file does not fit; the message lists missing,
            unexpected and misshapen tensors.
        ValueError: an unknown override, or a variant for a file that is not an official one.
        TypeError: as in `build`.
    """
    known = {field.name for field in fields(Equilibrium)}
    if unknown := sorted(overrides.keys() - known):
        raise ValueError(f"load has no option {', '.join(unknown)}; it has variant, {', '.join(sorted(known))}")
    place = file_of(path)
    if place.suffix != ".safetensors":
        model = load_released(place, variant)
    elif variant is None:
        saved: ModelConfig = config.load(ModelConfig, place.with_name("config.json"))
        tensors = checkpoint.load_tensors(place)
        with checkpoint.naming(place):
            model = checkpoint.restored(
                lambda: MDEQ(saved.architecture, saved.equilibrium()), tensors, refusal=f"{place} does not fit MDEQ"
            )
    else:
        raise ValueError(f"variant is for official files; {place} says in its config.json what it is")
    model.equilibrium = solved(model.equilibrium, overrides)
    return model.eval()


def file_of(path: Path | str) -> Path:
    """As `checkpoint.file_of`, with the names of `SHIPPED`."""
    return checkpoint.file_of(path, SHIPPED)


def save(path: Path, model: MDEQ) -> None:
    """Writes the weights of `model` to `path` (.safetensors), and its configuration to config.json beside it."""
    checkpoint.save(path, model, model_config(model))


def model_config(model: MDEQ) -> ModelConfig:
    """The configuration of `model`.

    Raises:
        ValueError: a configuration file cannot express its solver, stop or adjoint.
    """
    choice = model.equilibrium
    return ModelConfig(architecture=model.size, layer=LayerConfig.of(choice), numerics=choice.numerics)


def solved(equilibrium: Equilibrium, overrides: dict[str, Any]) -> Equilibrium:
    """`equilibrium` with some fields replaced; a stop without an eval_stop also applies in evaluation."""
    if "stop" in overrides:
        overrides = {"eval_stop": None, **overrides}
    return replace(equilibrium, **overrides)
