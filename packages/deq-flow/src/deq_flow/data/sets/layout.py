"""What the data sets share: pairs of frames of one size, and flow of their size."""

from pathlib import Path

import torch
from torch import Tensor

from deq_core.experiment.data.images import read_image
from deq_core.experiment.data.layout import require_size
from deq_flow.data.io import read_flo

DENSE_LIMIT = 1000.0  # pixels; a dense set marks unknown motion by larger components


def read_pair(first: Path, second: Path, *, upright: bool = False) -> tuple[Tensor, Tensor]:
    """Two frames, uint8 (3, h, w); of `upright` see `read_image`.

    Raises:
        FileFormatError: they differ in size.
    """
    image1, image2 = read_image(first, upright=upright), read_image(second, upright=upright)
    require_size(second, image2, image1, what="the size of the frame before")
    return image1, image2


def read_dense(path: Path, image: Tensor) -> tuple[Tensor, Tensor]:
    """Flow (2, h, w) of a .flo file, and where it is known, as `known_flow` says.

    Raises:
        FileFormatError: the file is damaged, or not of the size of its image.
    """
    return known_flow(path, read_flo(path), image)


def known_flow(path: Path, flow: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
    """Flow (2, h, w) that `path` held, and bool (h, w): where both components are below 1000 pixels, which NaN is not.

    Raises:
        FileFormatError: it is not of the size of its image.
    """
    require_size(path, flow, image)
    valid = (flow.abs() < DENSE_LIMIT).all(dim=0)
    return torch.where(valid, flow, 0.0), valid


def unknown_flow(image: Tensor) -> tuple[Tensor, Tensor]:
    """Flow zero and validity False, for pairs without published motion."""
    size = image.shape[-2:]
    return torch.zeros(2, *size), torch.zeros(size, dtype=torch.bool)
