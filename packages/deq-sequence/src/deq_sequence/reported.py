"""Reported results of a model on a text: metrics, and a table over evaluations of f."""

import math

from einops import rearrange
from torch import Tensor

from deq_core.experiment.tables import Row
from deq_sequence.data.vocabulary import Vocabulary
from deq_sequence.evaluate import Measured, Score


def summary(score: Score, characters: int) -> dict[str, float]:
    """Reported metrics of a model."""
    return {
        "loss": score.loss,
        "perplexity": score.perplexity,
        "bits_per_character": score.nats / math.log(2) / characters,
        "tokens": score.tokens,
        "characters": characters,
        "residual": score.residual,
        "steps": score.steps / score.solves,
        "converged": score.converged / score.solves,
    }


def steps(found: Measured) -> list[Row]:
    """One row per solver and evaluation of the sweep: step, loss, perplexity, residual."""
    return [
        {
            "solver": solver,
            "step": step,
            "loss": point.loss,
            "perplexity": point.perplexity,
            "residual": point.residual,
        }
        for solver, points in found.sweep.items()
        for step, point in enumerate(points, start=1)
        if point.tokens
    ]


def characters(text: Tensor, vocabulary: Vocabulary, batch_size: int) -> int:
    """Number of characters in the predicted tokens: those of every row except the first."""
    width = len(text) // batch_size
    rows = rearrange(text[: batch_size * width], "(row t) -> row t", row=batch_size)[:, 1:]
    return sum(len(vocabulary.decode(row.tolist())) for row in rows)


def so_far(score: Score) -> list[Row]:
    """One row of a score interrupted by an error; empty if nothing was counted."""
    return [{"tokens": score.tokens, "loss": score.loss, "residual": score.residual}] if score.tokens else []
