"""Texts that a language model goes on with, token by token."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

import deq_core as deq
from deq_sequence.models.reader import Past, Reader, Reading
from deq_sequence.sampling import Sampling

Start = Literal["cold", "previous", "token"]
"""Where the solve of a new position begins: at zeros; at the state of the position before; at the state of the last
position that had the same token (at the position before where there was none)."""


@dataclass(frozen=True)
class Drawn:
    """A token that was drawn.

    token     its number
    log_prob  of the model, before `Sampling` changed it, in nats
    solution  the solve that it was drawn from: that of the position before
    """

    token: int
    log_prob: float
    solution: deq.Solution


def generate(
    reader: Reader, prompt: Tensor, sampling: Sampling, *, seed: int = 0, start: Start = "token"
) -> Iterator[Drawn]:
    """The tokens that follow `prompt` (tokens,), without end, each drawn when it is asked for.

    One seed gives one text on one machine. A token is read once: a solve of its position alone.
    """
    generator = torch.Generator().manual_seed(seed)
    starts = Starts(start)
    reading = read_all(reader, prompt[None], starts)
    while True:
        log_probs = reading.log_probs[0, -1]
        token = sampling.draw(log_probs, generator)
        yield Drawn(int(token), float(log_probs[token]), reading.solution)
        reading = read_one(reader, token.reshape(1, 1), reading.past, starts)


def read_all(reader: Reader, tokens: Tensor, starts: "Starts") -> Reading:
    """Reads a text (1, T) from its start, `reader.context` tokens at a time; returns what was made of the last ones."""
    past, reading = None, None
    for piece in tokens.split(reader.context, dim=1):
        reading = reader.read(piece, past)
        past = reading.past
        starts.see(piece, reading.solution.value)
    assert reading is not None  # even a text without tokens is one piece, which is refused
    return reading


def read_one(reader: Reader, token: Tensor, past: Past | None, starts: "Starts") -> Reading:
    """Reads the next token of one text (1, 1) from where `starts` says."""
    reading = reader.read(token, past, start=starts.begin(token))
    starts.see(token, reading.solution.value)
    return reading


class Starts:
    """The states of one text that solves of its further positions may begin at."""

    def __init__(self, kind: Start) -> None:
        self.kind: Start = kind
        self._last: Tensor | None = None
        self._of_token: dict[int, Tensor] = {}

    def begin(self, token: Tensor) -> Tensor | None:
        """Where the solve of the next position, which has this token (1, 1), begins, (1, 1, width); None for zeros."""
        match self.kind:
            case "cold":
                return None
            case "previous":
                return self._last
            case "token":
                return self._of_token.get(int(token), self._last)

    def see(self, tokens: Tensor, states: Tensor) -> None:
        """Takes the equilibria (1, T, width) of positions with these tokens (1, T)."""
        if self.kind == "cold":
            return
        self._last = states[:, -1:]
        if self.kind == "token":
            self._of_token |= {int(token): states[:, at : at + 1] for at, token in enumerate(tokens[0])}
