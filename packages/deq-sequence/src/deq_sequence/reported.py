"""What is reported of a model on a text: its metrics, and a table of the evaluations of f."""

import math

from einops import rearrange
from torch import Tensor

from deq_core.experiment.tables import Row
from deq_sequence.data.vocabulary import Vocabulary
from deq_sequence.evaluate import Measured, Score


def summary(score: Score, characters: int) -> dict[str, float]:
    """What a model is reported by."""
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
    """One row a solver and evaluation of the sweep: step, loss, perplexity, residual."""
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
    """Characters of the tokens (N,) that are predicted: those of every row but its first."""
    width = len(text) // batch_size
    rows = rearrange(text[: batch_size * width], "(row t) -> row t", row=batch_size)[:, 1:]
    return sum(len(vocabulary.decode(row.tolist())) for row in rows)


def so_far(score: Score) -> list[Row]:
    """One row of a score that an error cut short, if anything was counted."""
    return [{"tokens": score.tokens, "loss": score.loss, "residual": score.residual}] if score.tokens else []
