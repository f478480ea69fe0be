"""Arrays for figures, in one compressed file."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from deq_core.experiment.data.npy import header
from deq_core.experiment.errors import ResultsError
from deq_core.experiment.files import write_bytes
from deq_core.experiment.reading import decoding, read_bytes, require_room

HEADER, END = 100, 22
"""Bytes of a zip: at most before a member's content, but for its name, and of the record behind its list of members."""


def write_arrays(path: Path, arrays: Mapping[str, Tensor | np.ndarray]) -> None:
    """Writes named tensors or arrays to `path` (.npz), atomically; the same arrays give the same bytes."""
    plain: dict[str, Any] = {
        name: value.detach().cpu().numpy() if isinstance(value, Tensor) else value for name, value in arrays.items()
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **plain)  # every keyword is an array to NumPy before 2.1
    write_bytes(path, buffer.getvalue())


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays in the file `path` (.npz).

    Raises:
        ResultsError: there is no such file, or it is damaged.
    """
    data, again = read_bytes(path, ResultsError), "make it again"
    with decoding(path, ResultsError, "arrays as NumPy stores them", again), zipfile.ZipFile(io.BytesIO(data)) as file:
        members = file.infolist()
        require_room(path, ResultsError, sum(member.file_size for member in members))
        if not members:
            raise ResultsError(f"{path}: expected arrays, got none; {again}")
        last = max(members, key=lambda member: member.header_offset)
        room = file.start_dir - last.header_offset - last.compress_size - len(last.filename)
        listed = sum(46 + len(member.filename) + len(member.extra) + len(member.comment) for member in members)
        names = {member.filename for member in members}
        if len(names) < len(members) or room > HEADER or len(data) - file.start_dir - listed > END:
            raise ResultsError(f"{path}: expected a whole list of arrays of different names; {again}")
        return {member.filename.removesuffix(".npy"): _array(file.read(member)) for member in members}


def _array(data: bytes) -> np.ndarray:
    found = header(data, len(data))
    values = np.frombuffer(data, found.dtype, offset=found.offset)
    return values.reshape(found.shape, order="F" if found.fortran else "C").copy()
