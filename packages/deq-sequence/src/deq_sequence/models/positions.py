"""Sinusoidal embeddings of distances."""

import torch
from torch import Tensor


def sinusoids(length: int, width: int, like: Tensor) -> Tensor:
    """Distances length - 1, ..., 1, 0 as sines, then cosines, (length, width), with dtype and device of `like`."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    distances = torch.arange(length - 1, -1, -1, dtype=dtype, device=like.device)
    angles = distances[:, None] * frequencies(width, dtype, like.device)
    return torch.cat([angles.sin(), angles.cos()], dim=1).to(like)


def frequencies(width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Radians per position, (width / 2,): 10000^(-2i / width) (Vaswani et al., NeurIPS 2017, section 3.5)."""
    return 1 / 10000 ** (torch.arange(0, width, 2, dtype=dtype, device=device) / width)
