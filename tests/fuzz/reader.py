"""What the harness needs to know of a reader."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn


def plausible(_: Any, value: Any) -> bool:
    """Anything but None: for readers whose formats cannot tell a wrong value from a right one."""
    return value is not None


@dataclass(frozen=True)
class Reader:
    """A reader, and one small valid file for it."""

    name: str
    write: Callable[[Path], Path]
    """Writes to an empty folder what the reader needs; returns the file that is damaged."""
    read: Callable[[Path], Any]
    errors: tuple[type[Exception], ...]
    """Its own: what it may raise on any bytes."""
    right: Callable[[Any, Any], bool] = field(default=plausible)
    """Whether a value that it read from a damaged file may be, given that of the whole one."""
    remarks: bool = False
    """Whether its library may write lines of its own to stderr: of a format without checksums, they tell of damage that
    nothing else does."""


UNDIGESTED = object()
"""A value whose digest was damaged away: it may be any."""


def digested(read: Callable[[Path], Any], name: str = "model.safetensors") -> Callable[[Path], Any]:
    """The reader `read`, whose values are `UNDIGESTED` where the file of weights has lost the name of its digest."""

    def checked(path: Path) -> Any:
        value = read(path)
        return value if b'"sha256"' in path.with_name(name).read_bytes() else UNDIGESTED

    return checked


def same(original: Any, value: Any) -> bool:
    """Equal throughout: for formats that have checksums, where what can be read is what was written."""
    if value is UNDIGESTED:
        return True
    if isinstance(original, nn.Module):
        return same(original.state_dict(), value.state_dict())
    if isinstance(original, Tensor):
        return original.dtype == value.dtype and torch.equal(original, value)
    if isinstance(original, np.ndarray):
        return original.dtype == value.dtype and np.array_equal(original, value)
    if isinstance(original, Mapping):
        return original.keys() == value.keys() and all(same(original[key], value[key]) for key in original)
    if isinstance(original, list | tuple):
        return len(original) == len(value) and all(map(same, original, value))
    if is_dataclass(original):
        return all(same(getattr(original, part.name), getattr(value, part.name)) for part in fields(original))
    return original == value


def like(original: Any, value: Any) -> bool:
    """Of the types and numbers of dimensions of the original: for formats without checksums."""
    if isinstance(original, nn.Module):
        return like(original.state_dict(), value.state_dict())
    if isinstance(original, Tensor | np.ndarray):
        return original.dtype == value.dtype and original.ndim == value.ndim
    if isinstance(original, Mapping):
        return isinstance(value, Mapping)
    if isinstance(original, tuple) and not all(isinstance(part, int | str | float) for part in original):
        return len(original) == len(value) and all(map(like, original, value))
    return type(original) is type(value)


def finite_numbers(_: Any, value: Any) -> bool:
    """Plain values without NaN."""
    if isinstance(value, dict | list | tuple):
        return all(finite_numbers(_, part) for part in (value.values() if isinstance(value, dict) else value))
    return not (isinstance(value, float) and math.isnan(value))
