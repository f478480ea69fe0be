"""Global motion aggregation (Jiang et al. 2021): positions that look alike share motion features."""

from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn


class Attention(nn.Module):
    """Single-head scaled dot-product attention between all positions of the context, computed once per image pair.

    Args:
        by: "content": the score of j for i is <q_i, k_j>; "position": the products of q_i with the embeddings of the
            row and column offsets from i to j; "both": their sum
        positions: size of the table of relative positions. With by="content" the table is present, because released
            files have it, but neither used nor trained
    """

    def __init__(
        self, context: int, *, by: Literal["content", "position", "both"] = "content", positions: int = 0
    ) -> None:
        super().__init__()
        self.by = by
        self.to_qk = nn.Conv2d(context, 2 * context, 1, bias=False)
        self.scale = context**-0.5
        self.pos_emb = RelativePositions(positions, context) if positions else None
        if self.pos_emb is not None and by == "content":
            self.pos_emb.requires_grad_(False)

    def forward(self, context: Tensor) -> Tensor:
        """Weights (B, N, N) from context (B, C, h, w), N = h w; row i has those of position i."""
        query, key = self.to_qk(context).chunk(2, dim=1)
        query = self.scale * query
        scores = []
        if self.by != "position":
            scores.append(rearrange(query, "b c y x -> b (y x) c") @ rearrange(key, "b c v u -> b c (v u)"))
        if self.by != "content" and self.pos_emb is not None:
            scores.append(self.pos_emb(query))
        return torch.softmax(torch.stack(scores).sum(0) if len(scores) > 1 else scores[0], dim=2)


class RelativePositions(nn.Module):
    """Attention scores from relative positions, with one embedding for each row offset and each column offset.

    Offsets of `size` and more count as size - 1, so that maps larger than the table work; in the release they do not.
    """

    def __init__(self, size: int, channels: int) -> None:
        super().__init__()
        self.size = size
        self.rel_height = nn.Embedding(2 * size - 1, channels)
        self.rel_width = nn.Embedding(2 * size - 1, channels)

    def forward(self, query: Tensor) -> Tensor:
        """(B, N, N) scores of queries (B, C, h, w), N = h w."""
        height, width = query.shape[2:]
        rows = torch.einsum("bcyx,yvc->byxv", query, self._between(self.rel_height, height))
        columns = torch.einsum("bcyx,xuc->byxu", query, self._between(self.rel_width, width))
        return rearrange(rows[..., :, None] + columns[..., None, :], "b y x v u -> b (y x) (v u)")

    def _between(self, embedding: nn.Embedding, length: int) -> Tensor:
        """(length, length, C): row i, column j embeds j - i."""
        place = torch.arange(length, device=embedding.weight.device)
        distance = (place - place[:, None]).clamp(1 - self.size, self.size - 1)
        return embedding(distance + self.size - 1)


class Aggregate(nn.Module):
    """Motion features plus gamma times their attention-weighted values; gamma starts at zero."""

    def __init__(self, motion: int) -> None:
        super().__init__()
        self.to_v = nn.Conv2d(motion, motion, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, attention: Tensor, motion: Tensor) -> Tensor:
        """(B, C, h, w) from attention (B, N, N) and motion (B, C, h, w)."""
        values = rearrange(self.to_v(motion), "b c h w -> b c (h w)")
        return motion + self.gamma * rearrange(values @ attention.mT, "b c (h w) -> b c h w", h=motion.shape[2])
