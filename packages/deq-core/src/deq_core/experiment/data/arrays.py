"""Named arrays for figures, in a compressed file (.npz)."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from deq_core.experiment.data.npy import header
from deq_core.experiment.download import read_zip
from deq_core.experiment.errors import ResultsError
from deq_core.experiment.files import write_bytes
from deq_core.experiment.reading import decoding, read_bytes, require_room


def write_arrays(path: Path, arrays: Mapping[str, Tensor | np.ndarray]) -> None:
    """Writes named tensors or arrays to `path` (.npz), atomically; the same arrays give the same bytes."""
    plain: dict[str, Any] = {
        name: value.detach().cpu().numpy() if isinstance(value, Tensor) else value for name, value in arrays.items()
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **plain)  # NumPy before 2.1 stores every keyword as an array
    write_bytes(path, buffer.getvalue())


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays in the file `path` (.npz) by name.

    Raises:
        ResultsError: the file is missing or damaged.
    """
    data, again = read_bytes(path, ResultsError), "make it again"
    with decoding(path, ResultsError, "arrays as NumPy stores them", again):
        members = read_zip.members(io.BytesIO(data), lambda size: require_room(path, ResultsError, size))
        found = [
            (member.name.removesuffix(".npy"), _array(member.data.read() if member.data else b"")) for member in members
        ]
    if not found or len(dict(found)) < len(found):
        raise ResultsError(f"{path}: expected arrays of different names, got {[name for name, _ in found]}; {again}")
    return dict(found)


def _array(data: bytes) -> np.ndarray:
    found = header(data, len(data))
    values = np.frombuffer(data, found.dtype, offset=found.offset)
    return values.reshape(found.shape, order="F" if found.fortran else "C").copy()
