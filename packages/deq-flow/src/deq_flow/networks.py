"""Builds networks from a configuration, and loads and converts checkpoints."""

from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

from torch import Tensor

from deq_core.experiment import config
from deq_core.experiment.checkpoints import checkpoint
from deq_core.experiment.checkpoints.checkpoint import CheckpointError
from deq_core.experiment.config import Kind
from deq_flow.config import Converted
from deq_flow.models import RAFT, DEQFlow, build
from deq_flow.models.build import assemble, check_overrides
from deq_flow.models.compat.convert import INCOMPLETE, load_released, network_of, read_released
from deq_flow.params import EquilibriumModel, UnrolledModel

Network = DEQFlow | RAFT
Stored = Annotated[EquilibriumModel | UnrolledModel | Converted, Kind]
"""Contents of the config.json beside a checkpoint: the configuration of its training, or that of a converted file."""

SHIPPED: dict[str, Path] = {"default": Path(__file__).parent / "checkpoints" / "default"}
"""Folders of the checkpoints that the package ships, by name."""


def build_network(model: EquilibriumModel | UnrolledModel, **overrides: Any) -> Network:
    """A freshly initialised network. `overrides` replace the solver, gradient and other choices of its training."""
    if isinstance(model, UnrolledModel):
        own = {"steps": model.steps, "eval_steps": 2 * model.steps, "scales": model.scales}
        return build(model.name, **own | overrides)
    about = {choice.name: getattr(model, choice.name) for choice in fields(model)}
    apart = ("kind", "name", "layer")
    own = {name: value for name, value in about.items() if name not in apart and value is not None}
    return build(model.name, **model.layer.choices() | own | _for_evaluation_too(overrides))


def load(path: Path | str, **overrides: Any) -> Network:
    """The trained network in a file, in evaluation mode on the CPU.

    Args:
        path: a checkpoint of this package (model.safetensors with config.json beside it, or their folder), a released
            file (.pth; see `models.compat.convert`), or a name in `SHIPPED`, such as "default"
        overrides: arguments of `build` that do not affect the weights: solver, stop, eval_stop, adjoint, correlation,
            scales, ..., and for RAFT steps and eval_steps. `stop` without eval_stop, or `steps` without eval_steps,
            holds for both training and evaluation

    Raises CheckpointError for a file that is missing, damaged or not such a checkpoint, listing missing, unexpected
    and misshapen tensors, ConfigError for an invalid config.json, and ValueError for an unknown override.
    """
    path = file_of(path)
    if path.suffix == ".safetensors":
        return _load_ours(path, overrides)
    return load_released(path, **overrides)


def file_of(path: Path | str) -> Path:
    """As `checkpoint.file_of`, with the names of `SHIPPED`."""
    return checkpoint.file_of(path, SHIPPED)


def described(path: Path | str) -> EquilibriumModel | UnrolledModel | Converted:
    """The config.json beside a checkpoint, or, for a released file, the configuration recognised from its tensors.

    `path` is as in `load`. Raises CheckpointError for a file that is missing, damaged or not a checkpoint.
    """
    path = file_of(path)
    if path.suffix == ".safetensors":
        return _stored_beside(path)
    return read_released(path).about


def weights(path: Path | str) -> dict[str, Tensor]:
    """The weights of a checkpoint by the parameter names of this package.

    `path` is as in `load`. Raises CheckpointError for a file that is missing, damaged or not a checkpoint.
    """
    path = file_of(path)
    return checkpoint.load_tensors(path) if path.suffix == ".safetensors" else load_released(path).state_dict()


def convert(source: Path, out: Path) -> Converted:
    """Writes the network of a released file to `out` (.safetensors), and its configuration to config.json beside it.

    Tensors get the names used here, which are those of version 2. Weight normalisation is kept.
    Raises CheckpointError as `load` does; nothing is written then.
    """
    if out.suffix != ".safetensors":
        raise CheckpointError(f"{out}: a converted checkpoint is a .safetensors file; choose such a name")
    found = read_released(source)
    with checkpoint.naming(source):
        network = network_of(found)
    checkpoint.save(out, network, found.about)
    return found.about


def _stored_beside(path: Path) -> EquilibriumModel | UnrolledModel | Converted:
    beside = path.with_name("config.json")
    if not beside.exists():
        raise CheckpointError(f"{beside}: no such file; a checkpoint has its config.json beside it")
    return config.load(Stored, beside)


def _load_ours(path: Path, overrides: dict[str, Any]) -> Network:
    tensors = checkpoint.load_tensors(path)
    stored = _stored_beside(path)
    family = "raft" if getattr(stored, "family", stored.kind) in ("raft", "unrolled") else "deq-flow"
    check_overrides(str(path), overrides, family)

    def network() -> Network:
        if not isinstance(stored, Converted):
            return build_network(stored, **overrides)
        normed = {"weight_norm": stored.weight_norm} if family == "deq-flow" else {}
        return assemble(family, stored.architecture, {**overrides, **normed})

    with checkpoint.naming(path):
        return checkpoint.restored(network, tensors, refusal=INCOMPLETE, widened=True)


def _for_evaluation_too(overrides: dict[str, Any]) -> dict[str, Any]:
    return {"eval_stop": None, **overrides} if "stop" in overrides else overrides
