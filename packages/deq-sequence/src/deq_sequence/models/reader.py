"""Reading token by token: a solve for the new positions alone, given the keys and values of those before."""

from dataclasses import dataclass

import torch
from torch import Tensor

import deq_core as deq
from deq_sequence.models.positions import sinusoids
from deq_sequence.models.transformer import DEQTransformer, check_tokens


@dataclass(frozen=True)
class Past:
    """All that later positions see of those that were read, (B, heads, M, head_width) each.

    The cell is causal, so a later token does not move the equilibrium of an earlier one: its key and value, once
    computed from the equilibrium, stay. What a further token costs is a solve of one position.
    """

    keys: Tensor
    values: Tensor

    def __len__(self) -> int:
        """Positions that are seen."""
        return self.keys.shape[2]


@dataclass(frozen=True)
class Reading:
    """What was made of tokens (B, T).

    Attributes:
        log_probs: (B, T, vocabulary) log p of the token after each
        past: these tokens included
        solution: states (B, T, width) in `value`, with residuals, steps and trace of the solve
    """

    log_probs: Tensor
    past: Past
    solution: deq.Solution


class Reader:
    """Reads texts piece by piece, with the logits that `model(tokens, memory)` has for them, at less cost.

    Keys and values of the past are kept where `Memory` keeps states, and projected distances are computed once.
    Read in one piece or in many, a text of up to `context` tokens has the same equilibria, so the same logits up to the
    residual of the solves. Of a longer one each token sees at least the `context` positions before.

    With the equilibrium's `steps` (the weight-tied transformer) every piece is unrolled and later ones see its last
    states, as with a memory; then it matters how a text is cut.

    Args:
        model: in evaluation mode. A reader is for its weights as they are: after an update, make another.
        context: positions before a piece that are seen; by default the model's `memory`.
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
        """Reads tokens (B, T) that follow `past`, that of the same rows; None at the start of a text.

        Args:
            start: (B, T, width) where the solve begins; zeros by default
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
        """Projected distances length - 1, ..., 0; those computed before where they reach as far."""
        known = self._distances
        if known is None or known.shape[2] < length:
            size = self.model.size
            longest = max(length, self.context + 1)
            known = self.model.cell.attention.distances(sinusoids(longest, size.width, like=like))
            self._distances = known
        return known[:, :, known.shape[2] - length :]
