"""Weights as safetensors with their configuration beside them, and the state of an unfinished training."""

import hashlib
import io
import json
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from deq_core.experiment.config import plain
from deq_core.experiment.files import write_bytes, write_json


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, or made for another model; the message names the file."""


def save(path: Path, model: nn.Module, config: object) -> None:
    """Writes the weights and buffers of `model` to `path` (.safetensors), and `config` to config.json beside it.

    Equal weights give equal bytes. A tensor that two names share is written under both. The header holds a digest
    of the content, so that a damaged file is found when it is read.
    """
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    metadata = {"sha256": _digest(tensors)}  # one entry: safetensors writes several in random order
    write_bytes(path, safetensors.torch.save(tensors, metadata), durable=True)
    write_json(path.with_name("config.json"), plain(config))


def load_config(path: Path) -> Any:
    """The configuration written beside the checkpoint `path`, as JSON gives it."""
    beside = path.with_name("config.json")
    try:
        return json.loads(beside.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{beside}: no such file; a checkpoint has its config.json beside it") from None
    except ValueError as error:
        raise CheckpointError(f"{beside}: not JSON ({error}); make the checkpoint again") from error


def load_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors in the safetensors file `path`, on the CPU, under their names.

    Raises:
        CheckpointError: where there is no such file, or it is cut short or damaged.
    """
    data = _read(path)
    try:
        tensors = safetensors.torch.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except (safetensors.SafetensorError, ValueError) as error:
        raise CheckpointError(f"{path}: not a whole safetensors file ({error}); copy or make it again") from error
    expected = header.get("__metadata__", {}).get("sha256")  # files of other programs have none
    if expected is not None and _digest(tensors) != expected:
        raise CheckpointError(
            f"{path}: damaged: its content does not match the digest it was saved with; make it again"
        )
    return tensors


def load_saved(path: Path) -> Any:
    """What torch.save wrote to `path`, with all tensors on the CPU; runs no code from it.

    Raises:
        CheckpointError: where there is no such file, it is cut short or damaged, or holds more than tensors.
    """
    data = _read(path)
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # on bytes that are no pickle torch.load raises nearly anything
        if "Unsupported global" in str(error):
            raise CheckpointError(
                f"{path}: expected tensors alone, got Python objects such as a whole model; where it was made, save "
                "its state_dict() instead"
            ) from error
        raise CheckpointError(
            f"{path}: not a whole file of tensors that torch.save wrote, but {len(data)} bytes that begin with "
            f"{data[:16]!r}; download it again"
        ) from error


def load_into(model: nn.Module, tensors: Mapping[str, Tensor], *, source: str = "the checkpoint") -> None:
    """Copies `tensors` into `model`, whose every weight and buffer must be there with its shape, and nothing else.

    Raises:
        CheckpointError: one, listing all names that are missing, unexpected, or of another shape.
    """
    complaints = misfits(tensors, model.state_dict())
    if complaints:
        listed = "\n".join(f"  {complaint}" for complaint in complaints)
        raise CheckpointError(f"{source} does not fit {type(model).__name__}:\n{listed}")
    model.load_state_dict(dict(tensors), strict=True)


def misfits(
    tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], *, name: Callable[[str], str] = str
) -> list[str]:
    """What keeps `tensors` from having the names and shapes of `expected`, a line for each; empty if nothing does.

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
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path}: not the state of a training: {error}") from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint") from None
    except IsADirectoryError:
        raise CheckpointError(f"{path}: expected a file, got a folder; name the checkpoint in it") from None


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
