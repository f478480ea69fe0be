"""Headers of .npy files, checked against the length of the file before anything is allocated."""

import io
import math
from dataclasses import dataclass

import numpy as np

LONGEST = 1 << 20
"""Maximum length of a header in bytes. NumPy allocates the length that the file announces."""


@dataclass(frozen=True)
class Header:
    """Header of an array in a file."""

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool
    """Whether the order is Fortran's (first index fastest)."""
    offset: int
    """Number of bytes before the values."""


def header(start: bytes, length: int) -> Header:
    """The header of a file of `length` bytes.

    Args:
        start: the beginning of the file, at least `LONGEST` bytes if it has as many.
        length: length of the file in bytes.

    Raises:
        ValueError: the length contradicts the header, or the array holds Python objects.
        Exception: of any type, if it is not a .npy file.
    """
    file = io.BytesIO(start)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject or min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != length - file.tell():
        raise ValueError(f"{dtype} of shape {shape}, which {length} bytes do not hold")
    return Header(shape, dtype, fortran, file.tell())
