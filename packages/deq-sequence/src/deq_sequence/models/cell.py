"""The function whose fixed point is sought: one layer of a transformer, given the tokens. It knows no solver."""

import torch.nn.functional as F
from torch import Tensor, nn

import deq_core as deq
from deq_sequence.config import Architecture
from deq_sequence.models.attention import Context, RelativeAttention


class TransformerCell(nn.Module):
    """Attention and a feed-forward layer, with the injected tokens: state (B, T, width) → state."""

    def __init__(self, size: Architecture) -> None:
        super().__init__()
        self.norm = size.norm
        self.attention = RelativeAttention(size)
        self.attention_dropout = deq.nn.VariationalDropout(size.dropout, shared=(1,))
        self.expand = nn.Linear(size.width, size.inner)
        self.inner_dropout = deq.nn.VariationalDropout(size.dropout, shared=(1,))
        self.contract = nn.Linear(size.inner, size.width)
        self.outer_dropout = deq.nn.VariationalDropout(size.dropout, shared=(1,))

    def forward(self, state: Tensor, context: Context) -> Tensor:
        attended = self.attend(state, context)
        # After attention (post) or before this layer (pre): the same place, so in both the residual is normalised.
        attended = normalized(attended) if self.norm == "pre" else attended
        inner = self.inner_dropout(F.relu(self.expand(attended)))
        out = self.outer_dropout(self.contract(inner)) + attended
        return out if self.norm == "pre" else normalized(out)

    def attend(self, state: Tensor, context: Context) -> Tensor:
        """The first half of the cell, (B, T, width)."""
        seen = normalized(state) if self.norm == "pre" else state
        out = self.attention_dropout(self.attention(seen, context)) + state
        return out if self.norm == "pre" else normalized(out)

    def context(self, injection: Tensor, memory: Tensor, memory_injection: Tensor, positions: Tensor) -> Context:
        """What a solve holds fixed.

        Args:
            injection: (B, T, 3A) of the segment's tokens
            memory, memory_injection: (B, M, width) states and (B, M, 3A) of the tokens before, M may be 0
            positions: (M + T, width) embedded distances M + T - 1, ..., 0
        """
        keys, values = self.keys_values(memory, memory_injection)
        return self.attention.context(injection, keys, values, self.attention.distances(positions))

    def keys_values(self, states: Tensor, injections: Tensor) -> tuple[Tensor, Tensor]:
        """What later positions see of those with these states; see `RelativeAttention.keys_values`."""
        return self.attention.keys_values(normalized(states) if self.norm == "pre" else states, injections)


def normalized(x: Tensor) -> Tensor:
    """Mean 0 and variance 1 of every position's channels."""
    return F.layer_norm(x, x.shape[-1:])
