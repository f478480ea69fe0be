"""The cell f of the equilibrium: one transformer layer with injected tokens."""

import torch.nn.functional as F
from torch import Tensor, nn

import deq_core as deq
from deq_sequence.config import Architecture
from deq_sequence.models.attention import Context, RelativeAttention


class TransformerCell(nn.Module):
    """Attention with injected tokens, then a feed-forward layer: state (B, T, width) → state."""

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
        # "post" normalises after attention, "pre" before the feed-forward layer: the same place, so the residual
        # connection below adds the normalised value in both.
        attended = normalized(attended) if self.norm == "pre" else attended
        inner = self.inner_dropout(F.relu(self.expand(attended)))
        out = self.outer_dropout(self.contract(inner)) + attended
        return out if self.norm == "pre" else normalized(out)

    def attend(self, state: Tensor, context: Context) -> Tensor:
        """The attention half of the cell, (B, T, width)."""
        seen = normalized(state) if self.norm == "pre" else state
        out = self.attention_dropout(self.attention(seen, context)) + state
        return out if self.norm == "pre" else normalized(out)

    def context(self, injection: Tensor, memory: Tensor, memory_injection: Tensor, positions: Tensor) -> Context:
        """The constant inputs of a solve.

        Args:
            injection: (B, T, 3A) from the segment's tokens
            memory, memory_injection: states (B, M, width) and injections (B, M, 3A) of the preceding tokens; M may be 0
            positions: (M + T, width) embedded distances M + T - 1, ..., 0
        """
        keys, values = self.keys_values(memory, memory_injection)
        return self.attention.context(injection, keys, values, self.attention.distances(positions))

    def keys_values(self, states: Tensor, injections: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of positions with these states; see `RelativeAttention.keys_values`."""
        return self.attention.keys_values(normalized(states) if self.norm == "pre" else states, injections)


def normalized(x: Tensor) -> Tensor:
    """Layer norm without gains: mean 0 and variance 1 over the channels of each position."""
    return F.layer_norm(x, x.shape[-1:])
