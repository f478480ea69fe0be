"""Global motion aggregation (Jiang et al. 2021): motion features shared between positions that look alike."""

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """Softmax of scaled dot products between all positions of the context, one head; computed once per image pair."""

    def __init__(self, context: int) -> None:
        super().__init__()
        self.to_qk = nn.Conv2d(context, 2 * context, 1, bias=False)
        self.scale = context**-0.5

    def forward(self, context: Tensor) -> Tensor:
        """(B, N, N) weights from context (B, C, h, w), N = h w; row i says where position i looks (equation 1)."""
        query, key = self.to_qk(context).flatten(2).chunk(2, dim=1)
        return torch.softmax(self.scale * query.mT @ key, dim=2)


class Aggregate(nn.Module):
    """Motion features plus gamma times their attention-weighted values (equation 2); gamma starts at zero."""

    def __init__(self, motion: int) -> None:
        super().__init__()
        self.to_v = nn.Conv2d(motion, motion, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, attention: Tensor, motion: Tensor) -> Tensor:
        """(B, C, h, w) from attention (B, N, N) and motion (B, C, h, w)."""
        values = self.to_v(motion).flatten(2)
        return motion + self.gamma * (values @ attention.mT).view_as(motion)
