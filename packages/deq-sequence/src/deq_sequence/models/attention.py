"""Causal self-attention with relative positions and a memory (Dai et al., ACL 2019), as in DEQ-Transformer."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

import deq_core as deq
from deq_sequence.config import Architecture


@dataclass(frozen=True)
class Context:
    """Inputs of attention besides the state; constant during a solve.

    Attributes:
        injection: (B, T, 3A) from the segment's tokens, added to queries, keys and values; A = heads * head_width
        keys, values: (B, heads, M, head_width) of the memory
        distances: (heads, head_width, M + T) projected embeddings of the distances M + T - 1, ..., 1, 0
        hidden: (T, M + T) attention mask, True where a position must not attend: ahead, or beyond the horizon
    """

    injection: Tensor
    keys: Tensor
    values: Tensor
    distances: Tensor
    hidden: Tensor


class RelativeAttention(nn.Module):
    """Multi-head attention whose scores depend on the content and the distance of two positions."""

    def __init__(self, size: Architecture) -> None:
        super().__init__()
        self.heads = size.heads
        self.horizon = size.horizon
        self.qkv = nn.Linear(size.width, 3 * size.attention, bias=False)
        self.position = nn.Linear(size.width, size.attention, bias=False)
        self.content_bias = nn.Parameter(size.initial * torch.randn(size.heads, size.head_width))
        self.position_bias = nn.Parameter(size.initial * torch.randn(size.heads, size.head_width))
        self.weight_dropout = deq.nn.VariationalDropout(size.attention_dropout)
        self.output = nn.Linear(size.attention, size.width)

    def forward(self, state: Tensor, context: Context) -> Tensor:
        """Attention output: state (B, T, width) → (B, T, width)."""
        projected = self.qkv(state) + context.injection
        query, key, value = rearrange(projected, "b t (part h c) -> part b h t c", part=3, h=self.heads)
        key = torch.cat([context.keys, key], dim=2)
        value = torch.cat([context.values, value], dim=2)
        content = (query + self.content_bias[:, None]) @ key.mT
        distance = shifted((query + self.position_bias[:, None]) @ context.distances)
        scores = (content + distance) / math.sqrt(query.shape[-1])
        weights = scores.masked_fill(context.hidden, -torch.inf).softmax(-1)
        gathered = self.weight_dropout(weights) @ value
        return self.output(rearrange(gathered, "b h t c -> b t (h c)"))

    def keys_values(self, states: Tensor, injections: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values: states (B, M, width), injections (B, M, 3A) → (B, heads, M, head_width) each."""
        # Uses the layer's weight without calling it: a delta layer would store these states as its last input.
        _, key_weight, value_weight = self.qkv.weight.chunk(3)
        _, key_injection, value_injection = injections.chunk(3, dim=-1)
        keys = F.linear(states, key_weight) + key_injection
        values = F.linear(states, value_weight) + value_injection
        return (
            rearrange(keys, "b m (h c) -> b h m c", h=self.heads),
            rearrange(values, "b m (h c) -> b h m c", h=self.heads),
        )

    def distances(self, positions: Tensor) -> Tensor:
        """Projects embedded distances (K, width) for the product with queries, (heads, head_width, K)."""
        return rearrange(F.linear(positions, self.position.weight), "k (h c) -> h c k", h=self.heads)

    def context(self, injection: Tensor, keys: Tensor, values: Tensor, distances: Tensor) -> Context:
        """The constant inputs of a solve.

        Args:
            injection: (B, T, 3A) from the segment's tokens
            keys, values: (B, heads, M, head_width) of the preceding tokens; M may be 0
            distances: (heads, head_width, M + T) projected distances M + T - 1, ..., 0
        """
        length, past = injection.shape[1], keys.shape[2]
        ahead = torch.ones(length, past + length, dtype=torch.bool, device=injection.device).triu(past + 1)
        beyond = torch.ones_like(ahead).tril(past - self.horizon)
        return Context(injection, keys, values, distances, hidden=ahead | beyond)


def shifted(scores: Tensor) -> Tensor:
    """Turns scores (..., T, K) by distance, K - 1, ..., 0, into scores by position: row i moves left by T - 1 - i.

    Entries ahead of a row's own position are arbitrary and must be masked. Appendix B of Dai et al.
    """
    rows = scores.shape[-2]
    padded = rearrange(F.pad(scores, (1, 0)), "... t k -> ... (t k)")
    return rearrange(padded[..., rows:], "... (t k) -> ... t k", t=rows)
