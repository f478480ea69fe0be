"""Arrays as NumPy stores them (.npy), whose headers are compared with their lengths before anything is allocated."""

import io
import math
from dataclasses import dataclass

import numpy as np

LONGEST = 1 << 20
"""Bytes that a header may be long; it says how long it is, and NumPy asks for as much."""


@dataclass(frozen=True)
class Header:
    """What a file says of its array."""

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool
    """Whether the first index runs fastest."""
    offset: int
    """Bytes before the values."""


def header(start: bytes, length: int) -> Header:
    """The header of a file of `length` bytes that begins with `start`, at least its first `LONGEST`.

    Raises:
        ValueError: it has another length than its header says, or holds Python objects.
        Exception: of any kind, where it is no such file.
    """
    file = io.BytesIO(start)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject or min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != length - file.tell():
        raise ValueError(f"{dtype} of shape {shape}, which {length} bytes do not hold")
    return Header(shape, dtype, fortran, file.tell())
