"""Pads images to a multiple of the network's scale."""

from typing import Literal

import torch
from torch import Tensor


class Padding:
    """Replication padding of (height, width) to a multiple of `multiple`, and the crop that reverses it.

    "centre" pads both sides equally, as evaluations on Sintel do; "bottom" centres the width and adds all rows below,
    as evaluations on KITTI do. If the number to add is odd, the smaller half comes first.
    """

    def __init__(self, height: int, width: int, multiple: int, mode: Literal["centre", "bottom"] = "centre") -> None:
        self.size = (height, width)
        self.padded = tuple(multiple * ((length + multiple - 1) // multiple) for length in self.size)
        rows, columns = (padded - length for padded, length in zip(self.padded, self.size, strict=True))
        top = rows // 2 if mode == "centre" else 0
        left = columns // 2
        self.sides = (left, columns - left, top, rows - top)

    def pad(self, images: Tensor) -> Tensor:
        """(B, C, height, width) to the padded size."""
        left, _, top, _ = self.sides
        # By index rather than by F.pad, because sizes are symbolic during export.
        for dim, length, padded, first in zip((2, 3), self.size, self.padded, (top, left), strict=True):
            index = torch.arange(padded, device=images.device) - first
            images = images.index_select(dim, index.clamp(0, length - 1))
        return images

    def crop(self, flow: Tensor) -> Tensor:
        """(B, C, padded height, padded width) back to (B, C, height, width)."""
        left, _, top, _ = self.sides
        for dim, length, first in zip((2, 3), self.size, (top, left), strict=True):
            flow = flow.index_select(dim, torch.arange(length, device=flow.device) + first)
        return flow
