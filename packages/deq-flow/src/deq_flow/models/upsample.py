"""Upsampling of flow from cells to pixels: learned convex combinations (Teed & Deng 2020, 3.3) or bilinear."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


def mask_head(hidden: int, inner: int, scale: int) -> nn.Sequential:
    """Logits (B, 9 scale^2, h, w) of the convex combinations, before the factor 0.25 of `convex_upsample`."""
    return nn.Sequential(
        nn.Conv2d(hidden, inner, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(inner, 9 * scale**2, 1),
    )


def convex_upsample(flow: Tensor, logits: Tensor, scale: int) -> Tensor:
    """Flow (B, 2, scale h, scale w) in pixels, from flow (B, 2, h, w) in cells.

    Each pixel is a convex combination of its cell's 3x3 neighbourhood (zero outside). The factor 0.25 of the logits
    balances their gradients against the rest of the network.
    """
    logits = rearrange(logits, "b (neighbour pixel) h w -> b 1 neighbour pixel h w", neighbour=9)
    weights = torch.softmax(0.25 * logits.to(flow.dtype), dim=2)
    cells = F.unfold(scale * flow, 3, padding=1)
    cells = rearrange(cells, "b (xy neighbour) (h w) -> b xy neighbour 1 h w", xy=2, h=flow.shape[2])
    pixels = (weights * cells).sum(dim=2)
    return F.pixel_shuffle(rearrange(pixels, "b xy pixel h w -> b (xy pixel) h w"), scale)


def bilinear_upsample(flow: Tensor, scale: int) -> Tensor:
    """Flow (B, 2, scale h, scale w) in pixels, from flow (B, 2, h, w) in cells; corners aligned as in RAFT-small."""
    height, width = flow.shape[2:]
    return scale * F.interpolate(flow, (scale * height, scale * width), mode="bilinear", align_corners=True)
