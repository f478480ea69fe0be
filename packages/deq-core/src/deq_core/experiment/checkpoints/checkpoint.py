"""Weights as safetensors with their configuration beside them, and the state of an unfinished training."""

import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from deq_core.experiment.checkpoints import saved
from deq_core.experiment.checkpoints.shapes import shapes_only
from deq_core.experiment.checkpoints.state_dict import state_dict
from deq_core.experiment.config import plain
from deq_core.experiment.errors import CheckpointError as CheckpointError
from deq_core.experiment.files import OutputError, write_bytes, write_json
from deq_core.experiment.reading import decoding, read_bytes, told

Network = TypeVar("Network", bound=nn.Module)


def save(path: Path, model: nn.Module, config: object) -> None:
    """Writes the weights and buffers of `model` to `path` (.safetensors), and `config` to config.json beside it.

    Equal weights give equal bytes. A tensor that two names share is written under both. The header holds a digest
    of the content, so that a damaged file is found when it is read.

    Raises:
        CheckpointError: the name is another one.
        OutputError: other weights in the folder have a config.json that says something else, which they would lose.
    """
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path}: a checkpoint is a .safetensors file; choose such a name")
    require_same_config(path, plain(config))
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    metadata = {"sha256": _digest(tensors)}  # one entry: safetensors writes several in random order
    write_bytes(path, safetensors.torch.save(tensors, metadata), durable=True)
    write_json(path.with_name("config.json"), plain(config))


def require_same_config(path: Path, config: Any) -> None:
    """Raises OutputError where config.json, which is of all weights in a folder, is of others and not `config`."""
    beside = path.with_name("config.json")
    others = sorted(other.name for other in path.parent.glob("*.safetensors") if other.name != path.name)
    if others and beside.exists() and load_config(path) != json.loads(json.dumps(config)):
        raise OutputError(
            f"cannot write {path}: {beside} is that of {others[0]}, another network, which could not be loaded without "
            "it: choose another folder"
        )


def load_config(path: Path) -> Any:
    """The configuration written beside the checkpoint `path`, as JSON gives it."""
    beside = path.with_name("config.json")
    data = read_bytes(beside, CheckpointError, absent="no such file; a checkpoint has its config.json beside it")
    with decoding(beside, CheckpointError, "JSON", "make the checkpoint again"):
        return json.loads(data)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of the network in `path` on the CPU, as `state_dict` names them.

    The file is one of safetensors (by its suffix), or of torch.save, of which no code is run.

    Raises:
        CheckpointError: where there is no such file, it is cut short or damaged, holds more than tensors, or not one
            network.
    """
    with naming(path):
        return state_dict(_stored(path) if path.suffix == ".safetensors" else load_saved(path))


def load_saved(path: Path) -> Any:
    """What torch.save wrote to `path`, with all tensors on the CPU; runs no code from it.

    Raises:
        CheckpointError: where there is no such file, it is cut short or damaged, or holds more than tensors.
    """
    what = "a whole file of tensors that torch.save wrote"
    try:
        return saved.load(_read(path), path, what=what, remedy="download it again")
    except saved.ForeignError as error:
        raise CheckpointError(
            f"{path}: expected tensors alone, got Python objects such as a whole model; where it was made, save its "
            f"state_dict() instead of {error}"
        ) from error


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Puts the path of a checkpoint before the messages of `CheckpointError`s in the block that lack it."""
    try:
        yield
    except CheckpointError as error:
        raise error if str(path) in str(error) else CheckpointError(f"{path}: {error}") from None


def restored(
    build: Callable[[], Network], tensors: Mapping[str, Tensor], *, refusal: str = "", widened: bool = False
) -> Network:
    """The network that `build` makes, `filled` with `tensors`.

    Shapes are compared before any memory is taken: a configuration may ask for more than there is. What `build` sets
    weights to does not count, nor does it draw random numbers.
    """
    return filled(outlined(build, tensors), tensors, refusal=refusal, widened=widened)


def outlined(build: Callable[[], Network], tensors: Mapping[str, Tensor]) -> Network:
    """The network that `build` makes, without memory, of about as many tensors as there are.

    Raises:
        CheckpointError: its sizes are none that a network can have.
    """
    try:
        with shapes_only(len(tensors)):
            return build()
    except CheckpointError:
        raise
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:  # torch's words for sizes
        raise CheckpointError(f"no network has these sizes: {told(error)}") from error


def filled(model: Network, tensors: Mapping[str, Tensor], *, refusal: str = "", widened: bool = False) -> Network:
    """`model`, which was `outlined`, with copies of `tensors`, in evaluation mode.

    Args:
        model: the network.
        tensors: its every weight and buffer, and nothing else.
        refusal: how the error begins; that the checkpoint does not fit, by default.
        widened: whether weights of more than single precision keep it; the network's own decides otherwise.

    Raises:
        CheckpointError: one, listing all names that are missing, unexpected, or of another shape.
    """
    expected = model.state_dict()
    require_fit(model, tensors, refusal or f"the checkpoint does not fit {type(model).__name__}")
    kinds = {key: value.dtype for key, value in expected.items()}
    if widened:
        kinds = {key: torch.promote_types(kind, tensors[key].dtype) for key, kind in kinds.items()}
    model.load_state_dict({key: tensors[key].to(kind, copy=True) for key, kind in kinds.items()}, assign=True)
    return model.eval()


def load_into(model: nn.Module, tensors: Mapping[str, Tensor], *, source: str = "the checkpoint") -> None:
    """Copies `tensors` into `model`, whose every weight and buffer must be there with its shape, and nothing else.

    Raises:
        CheckpointError: one, listing all names that are missing, unexpected, or of another shape.
    """
    require_fit(model, tensors, f"{source} does not fit {type(model).__name__}")
    model.load_state_dict(dict(tensors), strict=True)


def require_fit(model: nn.Module, tensors: Mapping[str, Tensor], refusal: str) -> None:
    """Raises CheckpointError, one for all `misfits` of a network and its tensors."""
    if complaints := misfits(tensors, model.state_dict()):
        raise CheckpointError("\n  ".join([f"{refusal}:", *complaints]))


def misfits(
    tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, name: Callable[[str], str] = str
) -> list[str]:
    """What keeps `tensors` from having the names and shapes of `expected`, a line for each; empty if nothing does. Nor
    may whole or complex numbers stand for weights.

    Args:
        tensors: what there is.
        expected: what there should be.
        name: what the reader calls the tensor of that name, such as its name in a released file.
    """
    return [
        *(f"missing {name(key)} {tuple(expected[key].shape)}" for key in expected if key not in tensors),
        *(f"unexpected {name(key)} {tuple(tensors[key].shape)}" for key in tensors if key not in expected),
        *(
            f"misshapen {name(key)}: expected {tuple(expected[key].shape)}, got {tuple(tensors[key].shape)}"
            for key in expected
            if key in tensors and tensors[key].shape != expected[key].shape
        ),
        *(
            f"mistyped {name(key)}: expected {expected[key].dtype}, got {tensors[key].dtype}"
            for key in expected
            if key in tensors and expected[key].is_floating_point() and not tensors[key].is_floating_point()
        ),
    ]


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Writes the state of a training (tensors, numbers, strings and containers of them), whole or not at all."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    data = buffer.getvalue()
    write_bytes(path, data + hashlib.sha256(data).digest(), durable=True)


def load_state(path: Path) -> dict[str, Any]:
    """What `save_state` wrote to `path`, with all tensors on the CPU; runs no code from it.

    `load_state_dict` moves what belongs on a device; Adam's step counters must stay where they are.

    Raises:
        CheckpointError: where there is no such file, or it is cut short or damaged.
    """
    stored = _read(path)
    data, digest = stored[:-32], stored[-32:]
    if hashlib.sha256(data).digest() != digest:
        raise CheckpointError(f"{path}: cut short or damaged; remove it to start this training from its first step")
    what, remedy = "the state of a training", "remove it to start this training from its first step"
    try:
        state = saved.load(data, path, what=what, remedy=remedy)
    except saved.ForeignError as error:
        raise CheckpointError(f"{path}: not {what}, but a file with {error}; {remedy}") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: not {what}, but a {type(state).__name__}; {remedy}")
    return state


def _stored(path: Path) -> dict[str, Tensor]:
    """The tensors in a safetensors file under their names."""
    data = _read(path)
    with decoding(path, CheckpointError, "a whole safetensors file", "copy or make it again"):
        tensors = safetensors.torch.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    expected = header.get("__metadata__", {}).get("sha256")  # files of other programs have none
    if expected is not None and _digest(tensors) != expected:
        raise CheckpointError(
            f"{path}: damaged: its content does not match the digest it was saved with; make it again"
        )
    return tensors


def _read(path: Path) -> bytes:
    return read_bytes(path, CheckpointError, absent="no such checkpoint")


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
