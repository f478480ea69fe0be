"""Networks from a configuration or from a file."""

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
from deq_flow.models.compat.convert import INCOMPLETE, Recognised, load_released, network_of, read_released
from deq_flow.params import EquilibriumModel, UnrolledModel

Network = DEQFlow | RAFT
Stored = Annotated[EquilibriumModel | UnrolledModel | Converted, Kind]
"""What config.json beside a checkpoint may hold: the configuration of its training, or what a conversion found."""

SHIPPED: dict[str, Path] = {"default": Path(__file__).parent / "checkpoints" / "default"}
"""Checkpoints that come with the package: name to folder."""


def build_network(model: EquilibriumModel | UnrolledModel, **overrides: Any) -> Network:
    """A freshly initialised network, with the solver and gradient of its training but for `overrides`."""
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
        path: a checkpoint of ours (model.safetensors with config.json beside it, or their folder), a released file
            (.pth; see `models.compat.convert`), or the name of one in `SHIPPED`, such as "default"
        overrides: those of `build` that weights do not depend on: solver, stop, eval_stop, adjoint, correlation,
            scales, ..., and for RAFT steps and eval_steps. A `stop` or `steps` without an eval_stop or eval_steps is
            for training and evaluation

    Raises CheckpointError for a file that is missing, damaged or of something else, listing what is missing,
    unexpected and misshapen, and ValueError for an unknown override.
    """
    path = file_of(path)
    if path.suffix == ".safetensors":
        return _load_ours(path, overrides)
    return load_released(path, **overrides)


def file_of(path: Path | str) -> Path:
    """The file of the weights that `path` stands for: itself, in a folder, or in that of a shipped name.

    Raises CheckpointError where there is no such checkpoint.
    """
    shipped = SHIPPED.get(str(path))
    if shipped is not None and not (shipped / "model.safetensors").exists():
        raise CheckpointError(f"{path}: this installation lacks its shipped checkpoint, {shipped}")
    path = shipped or Path(path)
    if not path.exists():
        raise CheckpointError(f"{path}: no such checkpoint, and none of that name is shipped ({', '.join(SHIPPED)})")
    return path / "model.safetensors" if path.is_dir() else path


def described(path: Path | str) -> EquilibriumModel | UnrolledModel | Converted:
    """What config.json beside a checkpoint, named as for `load`, holds; of a released file, what is found in it.

    Raises CheckpointError for a file that is missing, damaged or of something else.
    """
    path = file_of(path)
    if path.suffix == ".safetensors":
        return _stored_beside(path)
    return _as_converted(read_released(path))


def weights(path: Path | str) -> dict[str, Tensor]:
    """The weights of a checkpoint, named as for `load`, under the names used here.

    Raises CheckpointError for a file that is missing, damaged or of something else.
    """
    path = file_of(path)
    return checkpoint.load_tensors(path) if path.suffix == ".safetensors" else load_released(path).state_dict()


def load_network(folder: Path) -> Network:
    """The trained network in `folder`, in evaluation mode, from its model.safetensors and config.json alone."""
    return load(folder / "model.safetensors")


def convert(source: Path, out: Path) -> Converted:
    """Writes the network of a released file to `out` (.safetensors), and what was found to config.json beside it.

    Tensors have the names used here, so a v1 file becomes a v2 one, and weights stay normalised where they were.
    Raises CheckpointError as `load` does; nothing is written then.
    """
    if out.suffix != ".safetensors":
        raise CheckpointError(f"{out}: a converted checkpoint is a .safetensors file; choose such a name")
    found = read_released(source)
    with checkpoint.naming(source):
        network = network_of(found)
    about = _as_converted(found)
    checkpoint.save(out, network, about)
    return about


def _as_converted(found: Recognised) -> Converted:
    return Converted(family=found.family, architecture=found.size, weight_norm=found.weight_norm)


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
