"""Incremental inference: solves for new positions only, with cached keys and values of those before."""

from dataclasses import dataclass

import torch
from torch import Tensor

import deq_core as deq
from deq_sequence.models.positions import sinusoids
from deq_sequence.models.transformer import DEQTransformer, check_tokens


@dataclass(frozen=True)
class Past:
    """Key-value cache of the positions read so far, (B, heads, M, head_width) each.

    The cell is causal, so a later token does not change the equilibrium of an earlier one, and its key and value stay
    valid. A further token costs a solve of one position.
    """

    keys: Tensor
    values: Tensor

    def __len__(self) -> int:
        """Number of cached positions."""
        return self.keys.shape[2]


@dataclass(frozen=True)
class Reading:
    """Result of reading tokens (B, T).

    Attributes:
        log_probs: (B, T, vocabulary) log p of the token after each
        past: key-value cache, these tokens included
        solution: result of the solve, with the states (B, T, width) in `value`
    """

    log_probs: Tensor
    past: Past
    solution: deq.Solution


class Reader:
    """Reads texts piece by piece, with the log-probabilities of `model(tokens, memory)` at less cost.

    A reader caches keys and values of the past, where `Memory` has states, and computes projected distances once. A
    text of up to `context` tokens has the same equilibria in one piece or in many, so the same log-probabilities up to
    the residual of the solves. In a longer text each token sees at least the `context` positions before it.

    With the equilibrium's `steps` (the weight-tied transformer) every piece is unrolled and later ones see its last
    states, as with a memory; the log-probabilities then depend on how a text is cut.

    Args:
        model: network in evaluation mode. A reader caches values of its weights: after an update, make another.
        context: number of positions seen before a piece; by default the model's `memory`.
    """

    def __init__(self, model: DEQTransformer, *, context: int | None = None) -> None:
        if model.training:
            raise ValueError("a reader needs the model in evaluation mode, without dropout: call model.eval()")
        self.context = model.equilibrium.memory if context is None else context
        if self.context < 1:
            raise ValueError(
                f"context must be at least 1 position, got {self.context}; a model that was trained without memory "
                "needs one given, such as the length of its segments"
            )
        self.model = model
        self._distances: Tensor | None = None

    @torch.no_grad()
    def read(self, tokens: Tensor, past: Past | None = None, *, start: Tensor | None = None) -> Reading:
        """Reads tokens (B, T) that follow `past`, the cache of the same rows; None at the start of a text.

        Args:
            start: initial state of the solve, (B, T, width); zeros by default
        """
        check_tokens(tokens)
        model, cell = self.model, self.model.cell
        injections = model.injection(model.embedding(tokens))
        if past is None:
            past = Past(*cell.keys_values(injections.new_zeros(len(tokens), 0, model.size.width), injections[:, :0]))
        if len(past.keys) != len(tokens):
            raise ValueError(f"past must be of the same rows: expected {len(tokens)}, got {len(past.keys)}")
        distances = self._distances_of(len(past) + tokens.shape[1], injections)
        context = cell.attention.context(injections, past.keys, past.values, distances)
        begin = deq.nn.warm_start(start, injections.new_zeros(*tokens.shape, model.size.width))
        solution = model.solve(lambda state: cell(state, context), begin)
        keys, values = cell.keys_values(solution.value, injections)
        seen = (torch.cat(pair, dim=2)[:, :, -self.context :] for pair in ((past.keys, keys), (past.values, values)))
        return Reading(model.log_probs(solution.value), Past(*seen), solution)

    def _distances_of(self, length: int, like: Tensor) -> Tensor:
        """Projected distances length - 1, ..., 0, from the cache if it is long enough."""
        known = self._distances
        if known is None or known.shape[2] < length:
            size = self.model.size
            longest = max(length, self.context + 1)
            known = self.model.cell.attention.distances(sinusoids(longest, size.width, like=like))
            self._distances = known
        return known[:, :, known.shape[2] - length :]
