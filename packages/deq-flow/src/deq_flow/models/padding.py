"""Padding of images to a multiple of the grid's scale."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor


class Padding:
    """Replicated borders that bring (height, width) to a multiple of `multiple`, and the way back.

    "centre" pads both sides alike, as evaluations on Sintel do; "bottom" centres the width and puts all added rows
    below, as evaluations on KITTI do. Where the number to add is odd, the smaller half comes first.
    """

    def __init__(self, height: int, width: int, multiple: int, mode: Literal["centre", "bottom"] = "centre") -> None:
        rows, columns = -height % multiple, -width % multiple
        top = rows // 2 if mode == "centre" else 0
        left = columns // 2
        self.sides = (left, columns - left, top, rows - top)
        self.size = (height, width)

    def pad(self, images: Tensor) -> Tensor:
        """(B, C, height, width) to the padded size."""
        return F.pad(images, self.sides, mode="replicate") if any(self.sides) else images

    def crop(self, flow: Tensor) -> Tensor:
        """(B, C, padded height, padded width) back to (B, C, height, width)."""
        left, _, top, _ = self.sides
        height, width = self.size
        return flow[..., top : top + height, left : left + width]
