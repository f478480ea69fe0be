"""Sampling of the next token from a model's probabilities."""

from dataclasses import dataclass

import torch
from torch import Tensor

from deq_core.experiment.errors import NonFiniteError


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Settings of sampling, applied in this order after `never`.

    Attributes:
        temperature: divisor of log-probabilities; 0 takes the most probable token
        top_k: number of most probable tokens to keep (Fan et al., ACL 2018); None keeps all
        top_p: total probability of the smallest set of most probable tokens to keep (Holtzman et al., ICLR 2020)
        never: tokens that are never drawn
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    never: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise ValueError(f"temperature must be a number of at least 0, got {self.temperature}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be at least 1 token, or left out to keep all, got {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, got {self.top_p}")

    def probabilities(self, log_probs: Tensor) -> Tensor:
        """Probabilities to draw from: log p (..., vocabulary) → p (..., vocabulary), float64.

        Raises:
            NonFiniteError: a log-probability is NaN or +inf, or no token may be drawn.
        """
        scores = log_probs.to(torch.float64, copy=True)
        scores[..., list(self.never)] = -torch.inf
        best = scores.amax(-1)  # NaN if any score is NaN
        if not best.isfinite().all():
            raise NonFiniteError(
                f"no token can be drawn: the greatest log-probability is {float(best[~best.isfinite()][0])}: the "
                "network's weights or its solve diverged"
            )
        if self.temperature == 0:
            return torch.nn.functional.one_hot(scores.argmax(-1), scores.shape[-1]).double()
        # Subtracting the best keeps scores finite at the lowest temperatures.
        ordered, order = ((scores - best[..., None]) / self.temperature).sort(dim=-1, descending=True, stable=True)
        if self.top_k is not None:
            ordered[..., self.top_k :] = -torch.inf
        kept = ordered.softmax(-1)
        before = kept.cumsum(-1) - kept
        kept = torch.where(before < self.top_p, kept, 0.0)
        return torch.zeros_like(kept).scatter(-1, order, kept / kept.sum(-1, keepdim=True))

    def draw(self, log_probs: Tensor, generator: torch.Generator) -> Tensor:
        """Draws tokens (...) with a CPU generator; log-probabilities (..., vocabulary) may be on any device."""
        chances = self.probabilities(log_probs.cpu())
        drawn = torch.multinomial(chances.reshape(-1, chances.shape[-1]), 1, generator=generator)
        return drawn[:, 0].reshape(log_probs.shape[:-1]).to(log_probs.device)
