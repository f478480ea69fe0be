"""Spring's files of flow: HDF5 with a data set "flow"."""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from deq_core.experiment.data.images import FileFormatError, damaged
from deq_core.experiment.reading import decoding, require_room


def read_flo5(path: Path) -> Tensor:
    """float32 (2, h, w) from an HDF5 file with a data set "flow" of shape (h, w, 2).

    Raises:
        ModuleNotFoundError: h5py is not installed.
        FileFormatError: the file has other contents, or is damaged.
    """
    with opened_flo5(path) as stored:
        require_room(path, FileFormatError, 8 * max(stored.size, math.prod(stored.chunks or ())))
        with decoding(path, FileFormatError, "whole chunks of flow"):
            flow = np.asarray(stored, dtype=np.float32)
    return torch.from_numpy(np.ascontiguousarray(rearrange(flow, "h w xy -> xy h w")))


@contextmanager
def opened_flo5(path: Path) -> Iterator[Any]:
    """The data set "flow" of an HDF5 file, not yet read; raises as `read_flo5` does."""
    try:
        import h5py
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("Spring's .flo5 files need h5py: pip install 'deq-flow[spring]'") from error
    with ExitStack() as opened:
        with decoding(path, FileFormatError, "a complete HDF5 file"):
            file = opened.enter_context(h5py.File(path))
            stored = file.get("flow") if isinstance(file.get("flow", getlink=True), h5py.HardLink) else None
            if not isinstance(stored, h5py.Dataset) or stored.is_virtual or stored.external:
                raise damaged(path, 'a data set "flow" (h, w, 2)', "none")
            shape, kind, missing = stored.shape, stored.dtype, unwritten(stored)
            length = stored.id.get_storage_size()
        if len(shape) != 3 or shape[2] != 2 or 0 in shape or kind.kind != "f":
            raise damaged(path, 'a data set "flow" (h, w, 2) of numbers', f"{kind} of shape {shape}")
        if length > path.stat().st_size:
            raise damaged(path, f"{path.stat().st_size} bytes of flow at most", f"a list of {length}")
        if missing:
            raise damaged(path, "flow at every point", f"{missing} of its parts missing")
        yield stored


def unwritten(stored: Any) -> int:
    """Number of a data set's chunks that are missing in the file; h5py would return zeros for them."""
    if stored.chunks is None:
        return int(stored.id.get_storage_size() < stored.size * stored.dtype.itemsize)
    whole = math.prod(-(-size // chunk) for size, chunk in zip(stored.shape, stored.chunks, strict=True))
    return whole - stored.id.get_num_chunks()
