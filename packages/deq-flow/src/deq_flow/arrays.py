"""Arrays for figures, in one compressed file."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from deq_core.experiment.files import write_bytes


def write_arrays(path: Path, arrays: Mapping[str, Tensor | np.ndarray]) -> None:
    """Writes named tensors or arrays to `path` (.npz), atomically; the same arrays give the same bytes."""
    plain = {
        name: value.detach().cpu().numpy() if isinstance(value, Tensor) else value for name, value in arrays.items()
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **plain)
    write_bytes(path, buffer.getvalue())


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays in the file `path`."""
    with np.load(path, allow_pickle=False) as file:
        return dict(file)
