"""Generation of text, token by token."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor

import deq_core as deq
from deq_sequence.demo.sampling import Sampling
from deq_sequence.finite import require_finite
from deq_sequence.initialisation import Initialisation, InitialStates
from deq_sequence.models.reader import Past, Reader, Reading
from deq_sequence.models.transformer import DEQTransformer


@dataclass(frozen=True)
class Drawn:
    """A token that was drawn.

    Attributes:
        token: number of the token
        log_prob: log-probability of the model, in nats, before `Sampling`
        solution: solve of the position before, from which the token was drawn
    """

    token: int
    log_prob: float
    solution: deq.Solution


def generate(
    reader: Reader, prompt: Tensor, sampling: Sampling, *, seed: int = 0, start: Initialisation | None = None
) -> Iterator[Drawn]:
    """Draws tokens that follow `prompt` (tokens,), endlessly and on demand.

    The same seed gives the same text on the same machine. Each token is read once, by a solve of its position alone.

    Args:
        start: initial state of a solve; by default `token`, or `cold` for an unrolled network, which allows no other.

    Raises:
        ValueError: an unrolled network is to start elsewhere.
        NonFiniteError: a prediction after a token, in the prompt or drawn, is not finite.
    """
    generator = torch.Generator().manual_seed(seed)
    starts = InitialStates(initial(reader.model, start))
    reading = read_all(reader, prompt[None], starts)
    for begin in count(len(prompt)):
        log_probs = reading.log_probs[0, -1]
        token = sampling.draw(log_probs, generator)
        yield Drawn(int(token), float(log_probs[token]), reading.solution)
        reading = read_one(reader, token.reshape(1, 1), reading.past, starts, begin=begin)


def initial(model: DEQTransformer, start: Initialisation | None) -> Initialisation:
    """`start`, or the default of `generate`; raises ValueError if an unrolled network is to start elsewhere."""
    if model.equilibrium.steps is None:
        return start or "token"
    if start not in (None, "cold"):
        raise ValueError(f"start: an unrolled network begins at zeros, cold, got {start}")
    return "cold"


def read_all(reader: Reader, tokens: Tensor, starts: InitialStates) -> Reading:
    """Reads a text (1, T) from its start, `reader.context` tokens at a time; returns the last reading."""
    past, reading, begin = None, None, 0
    for piece in tokens.split(reader.context, dim=1):
        reading = reader.read(piece, past)
        require_finite(reading.log_probs, reading.solution.residual, begin=begin)
        begin += piece.shape[1]
        past = reading.past
        starts.see(piece, reading.solution.value)
    assert reading is not None  # an empty text is one empty piece, which `read` refuses
    return reading


def read_one(reader: Reader, token: Tensor, past: Past | None, starts: InitialStates, *, begin: int) -> Reading:
    """Reads the next token (1, 1) of a text, after `begin` others, from an initial state of `starts`."""
    reading = reader.read(token, past, start=starts.begin(token))
    require_finite(reading.log_probs, reading.solution.residual, begin=begin)
    starts.see(token, reading.solution.value)
    return reading
