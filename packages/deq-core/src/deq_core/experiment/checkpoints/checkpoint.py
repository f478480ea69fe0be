"""Reads and writes weights (safetensors, with a config.json beside them) and the state of an unfinished training."""

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

    Equal weights give equal bytes. A tensor shared by two names is written under both. The header has a digest of the
    content, so that reading detects damage.

    Raises:
        CheckpointError: `path` does not end in .safetensors.
        OutputError: the folder has other weights with a different config.json, which would be overwritten.
    """
    if path.suffix != ".safetensors":
        raise CheckpointError(f"{path}: a checkpoint is a .safetensors file; choose such a name")
    require_same_config(path, plain(config))
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    metadata = {"sha256": _digest(tensors)}  # one entry: safetensors writes several in random order
    write_bytes(path, safetensors.torch.save(tensors, metadata), durable=True)
    write_json(path.with_name("config.json"), plain(config))


def file_of(path: Path | str, shipped: Mapping[str, Path]) -> Path:
    """The weights that `path` stands for, which exist: that file, the one in its folder, or that of a shipped name.

    Raises:
        CheckpointError: there is no such file or name.
    """
    place = shipped.get(str(path)) or Path(path)
    place = place / "model.safetensors" if place.is_dir() else place
    if not place.exists():
        if str(path) in shipped:
            raise CheckpointError(f"{path}: this installation lacks its shipped checkpoint, {place}")
        raise CheckpointError(f"{place}: no such checkpoint, and none of that name is shipped ({', '.join(shipped)})")
    return place


def require_same_config(path: Path, config: Any) -> None:
    """Raises OutputError if the folder has other weights whose config.json differs from `config`."""
    beside = path.with_name("config.json")
    others = sorted(other.name for other in path.parent.glob("*.safetensors") if other.name != path.name)
    if others and beside.exists() and load_config(path) != json.loads(json.dumps(config)):
        raise OutputError(
            f"cannot write {path}: {beside} belongs to {others[0]}, another network, which needs it: choose another "
            "folder"
        )


def load_config(path: Path) -> Any:
    """The configuration beside the checkpoint `path`, as JSON values."""
    beside = path.with_name("config.json")
    data = read_bytes(beside, CheckpointError, absent="no such file; a checkpoint has its config.json beside it")
    with decoding(beside, CheckpointError, "JSON", "make the checkpoint again"):
        return json.loads(data)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of the network in `path` on the CPU, under the names that `state_dict` gives them.

    The file is a safetensors file (by its suffix) or written by torch.save; no code in it is run.

    Raises:
        CheckpointError: the file is missing, truncated or damaged, holds more than tensors, or does not hold exactly
            one network.
    """
    with naming(path):
        return state_dict(_stored(path) if path.suffix == ".safetensors" else load_saved(path))


def load_saved(path: Path) -> Any:
    """The content of the torch.save file `path`, with all tensors on the CPU; no code in it is run.

    Raises:
        CheckpointError: the file is missing, truncated or damaged, or holds more than tensors.
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
    """Prefixes messages of `CheckpointError`s in the block with the checkpoint's path, if they lack it."""
    try:
        yield
    except CheckpointError as error:
        raise error if str(path) in str(error) else CheckpointError(f"{path}: {error}") from None


def restored(
    build: Callable[[], Network], tensors: Mapping[str, Tensor], *, refusal: str = "", widened: bool = False
) -> Network:
    """The network that `build` makes, `filled` with `tensors`.

    Shapes are compared before memory is allocated, since a configuration may ask for too much. `build` neither
    initialises weights nor draws random numbers.
    """
    return filled(outlined(build, tensors), tensors, refusal=refusal, widened=widened)


def outlined(build: Callable[[], Network], tensors: Mapping[str, Tensor]) -> Network:
    """The network that `build` makes, on the meta device; `tensors` bounds its number of tensors.

    Raises:
        CheckpointError: no network can have these sizes.
    """
    try:
        with shapes_only(len(tensors)):
            return build()
    except CheckpointError:
        raise
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:  # torch's errors for sizes
        raise CheckpointError(f"no network has these sizes: {told(error)}") from error


def filled(model: Network, tensors: Mapping[str, Tensor], *, refusal: str = "", widened: bool = False) -> Network:
    """The `outlined` network `model` with copies of `tensors`, in evaluation mode.

    Args:
        model: the network.
        tensors: exactly its weights and buffers.
        refusal: beginning of the error message; by default, that the checkpoint does not fit.
        widened: whether to keep the precision of tensors that is higher than the network's.

    Raises:
        CheckpointError: names are missing or unexpected, or shapes differ; one message lists all.
    """
    expected = model.state_dict()
    require_fit(model, tensors, refusal or f"the checkpoint does not fit {type(model).__name__}")
    kinds = {key: value.dtype for key, value in expected.items()}
    if widened:
        kinds = {key: torch.promote_types(kind, tensors[key].dtype) for key, kind in kinds.items()}
    model.load_state_dict({key: tensors[key].to(kind, copy=True) for key, kind in kinds.items()}, assign=True)
    return model.eval()


def load_into(model: nn.Module, tensors: Mapping[str, Tensor], *, source: str = "the checkpoint") -> None:
    """Copies `tensors` into `model`; they must be exactly its weights and buffers.

    Raises:
        CheckpointError: names are missing or unexpected, or shapes differ; one message lists all.
    """
    require_fit(model, tensors, f"{source} does not fit {type(model).__name__}")
    model.load_state_dict(dict(tensors), strict=True)


def require_fit(model: nn.Module, tensors: Mapping[str, Tensor], refusal: str) -> None:
    """Raises one CheckpointError that lists all `misfits` of `tensors` and the network."""
    if complaints := misfits(tensors, model.state_dict()):
        raise CheckpointError("\n  ".join([f"{refusal}:", *complaints]))


def misfits(
    tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, name: Callable[[str], str] = str
) -> list[str]:
    """Differences between `tensors` and `expected` in names, shapes and kinds of numbers, one line each.

    An integer or complex tensor in place of a floating-point one is a difference.

    Args:
        tensors: the tensors found.
        expected: the tensors of the network.
        name: maps a tensor's name to the one in messages, such as its name in a released file.
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
    """Writes the state of a training (tensors, numbers, strings and containers of them) atomically."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    data = buffer.getvalue()
    write_bytes(path, data + hashlib.sha256(data).digest(), durable=True)


def load_state(path: Path) -> dict[str, Any]:
    """The state that `save_state` wrote to `path`, with all tensors on the CPU; no code in it is run.

    `load_state_dict` moves tensors to their devices; Adam's step counters must stay on the CPU.

    Raises:
        CheckpointError: the file is missing, truncated or damaged.
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
    """The tensors in a safetensors file by name."""
    data = _read(path)
    with decoding(path, CheckpointError, "a whole safetensors file", "copy or make it again"):
        tensors = safetensors.torch.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    expected = header.get("__metadata__", {}).get("sha256")  # absent in files of other programs
    if expected is not None and _digest(tensors) != expected:
        raise CheckpointError(
            f"{path}: damaged: its content does not match the digest it was saved with; make it again"
        )
    return tensors


def _read(path: Path) -> bytes:
    return read_bytes(path, CheckpointError, absent="no such checkpoint")


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names, dtypes, shapes and bytes, sorted by name."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
