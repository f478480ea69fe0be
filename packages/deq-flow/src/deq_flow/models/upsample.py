"""From the grid of estimation to pixels: learned convex combinations (Teed & Deng 2020, 3.3) or bilinear."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def mask_head(hidden: int, inner: int, scale: int) -> nn.Sequential:
    """Logits (B, 9 scale^2, h, w) of the convex combinations, before the factor 0.25 of `convex_upsample`."""
    return nn.Sequential(
        nn.Conv2d(hidden, inner, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(inner, 9 * scale**2, 1),
    )


def convex_upsample(flow: Tensor, logits: Tensor, scale: int) -> Tensor:
    """Flow (B, 2, h, w) in cells to (B, 2, scale h, scale w) in pixels.

    Each pixel is a convex combination of its cell's 3x3 neighbourhood (zero outside). The logits are multiplied by
    0.25, which balances their gradients against the rest of the network.
    """
    batch, _, height, width = flow.shape
    weights = torch.softmax(0.25 * logits.view(batch, 1, 9, scale**2, height, width).to(flow.dtype), dim=2)
    cells = F.unfold(scale * flow, 3, padding=1).view(batch, 2, 9, 1, height, width)
    pixels = (weights * cells).sum(dim=2)
    return F.pixel_shuffle(pixels.view(batch, 2 * scale**2, height, width), scale)


def bilinear_upsample(flow: Tensor, scale: int) -> Tensor:
    """Flow (B, 2, h, w) in cells to (B, 2, scale h, scale w) in pixels, corner aligned to corner as in RAFT-small."""
    height, width = flow.shape[2:]
    return scale * F.interpolate(flow, (scale * height, scale * width), mode="bilinear", align_corners=True)
