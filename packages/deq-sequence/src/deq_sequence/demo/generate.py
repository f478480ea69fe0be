"""Texts that a language model goes on with, token by token."""

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
        token: its number
        log_prob: of the model, before `Sampling` changed it, in nats
        solution: the solve that it was drawn from: that of the position before
    """

    token: int
    log_prob: float
    solution: deq.Solution


def generate(
    reader: Reader, prompt: Tensor, sampling: Sampling, *, seed: int = 0, start: Initialisation | None = None
) -> Iterator[Drawn]:
    """The tokens that follow `prompt` (tokens,), without end, each drawn when it is asked for.

    One seed gives one text on one machine. A token is read once: a solve of its position alone.

    Args:
        start: where a solve begins; by default `token`, of an unrolled network `cold`, which is where it begins.

    Raises:
        ValueError: an unrolled network is to begin elsewhere.
        NonFiniteError: what the model says after a token, of the prompt or drawn, is not finite.
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
    """`start`, or the default of `generate`; raises ValueError where an unrolled network is to begin elsewhere."""
    if model.equilibrium.steps is None:
        return start or "token"
    if start not in (None, "cold"):
        raise ValueError(f"start: an unrolled network begins at zeros, cold, got {start}")
    return "cold"


def read_all(reader: Reader, tokens: Tensor, starts: InitialStates) -> Reading:
    """Reads a text (1, T) from its start, `reader.context` tokens at a time; returns what was made of the last ones."""
    past, reading, begin = None, None, 0
    for piece in tokens.split(reader.context, dim=1):
        reading = reader.read(piece, past)
        require_finite(reading.log_probs, reading.solution.residual, begin=begin)
        begin += piece.shape[1]
        past = reading.past
        starts.see(piece, reading.solution.value)
    assert reading is not None  # even a text without tokens is one piece, which is refused
    return reading


def read_one(reader: Reader, token: Tensor, past: Past | None, starts: InitialStates, *, begin: int) -> Reading:
    """Reads the next token of one text (1, 1), behind `begin` others, from the initial state that `starts` has."""
    reading = reader.read(token, past, start=starts.begin(token))
    require_finite(reading.log_probs, reading.solution.residual, begin=begin)
    starts.see(token, reading.solution.value)
    return reading
