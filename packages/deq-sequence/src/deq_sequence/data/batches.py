"""Batches of consecutive segments of a token stream."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from deq_core.experiment.seeding import item_rng


@dataclass(frozen=True)
class TokenBatch:
    """Segments of several rows of a text, read in parallel.

    Attributes:
        tokens: (B, T)
        targets: (B, T) the token after each
        first: whether the segments begin their rows, so that the memory must be reset
        lane: index of their memory; see `batches`
    """

    tokens: Tensor
    targets: Tensor
    first: bool
    lane: int = 0


@dataclass(frozen=True)
class Window:
    """A segment to evaluate a model on.

    Attributes:
        tokens, targets: (B, T)
        scored: number of predictions, the last of the T, that count; those before were counted already
        again: number of last tokens that the next window reads again, so that its memory must not have them
        begin: number of tokens of each row before the window
    """

    tokens: Tensor
    targets: Tensor
    scored: int
    again: int
    begin: int


def batches(
    tokens: Tensor, *, batch_size: int, length: int, seed: int = 0, shift: bool = False, lanes: int = 1
) -> Callable[[int], Iterator[TokenBatch]]:
    """An endless stream of batches from any step on: `batches(...)(start)` yields batches start, start + 1, ...

    The text is cut into batch_size * lanes rows of equal length, without the remainder. Every epoch reads them from
    left to right, `length` tokens at a time; the last segment of an epoch may be shorter. This is the released
    protocol. A batch depends on its number and the seed alone.

    Args:
        tokens: (N,) integers, the training text.
        batch_size: number of rows in a batch.
        length: number of tokens in a segment.
        seed: seed of the shifts.
        shift: whether each epoch starts at a random position of the text, wrapping around, so that rows and segments
            are cut elsewhere. The release does not shift.
        lanes: number of batches that share a step (processes, or batches accumulated to one update). Batch k is in lane
            k % lanes, and each lane has its own rows and memory.

    Raises:
        ValueError: the text is shorter than two tokens per row, or batch_size, length or lanes is below 1.
    """
    rows = batch_size * lanes
    if batch_size < 1 or lanes < 1 or length < 1:
        raise ValueError(f"batch_size, length and lanes must be at least 1, got {batch_size}, {length} and {lanes}")
    width = len(tokens) // rows
    if width < 2:
        raise ValueError(f"{len(tokens)} tokens are too few for {rows} rows of at least two; use fewer rows")
    per_epoch = -(-(width - 1) // length)

    def stream(start: int) -> Iterator[TokenBatch]:
        number = start
        text, of_epoch = tokens, None
        while True:
            step, lane = divmod(number, lanes)
            epoch, segment = divmod(step, per_epoch)
            if epoch != of_epoch:
                text, of_epoch = _rolled(tokens, epoch, seed) if shift else tokens, epoch
            table = rearrange(text[: rows * width], "(lane row t) -> lane row t", lane=lanes, row=batch_size)[lane]
            begin = segment * length
            end = min(begin + length, width - 1)
            yield TokenBatch(
                tokens=table[:, begin:end].long(),
                targets=table[:, begin + 1 : end + 1].long(),
                first=segment == 0,
                lane=lane,
            )
            number += 1

    return stream


def windows(tokens: Tensor, *, length: int, batch_size: int = 1, stride: int | None = None) -> Iterator[Window]:
    """Windows over a text for evaluation: every token of a row except the first is scored once, from left to right.

    Args:
        tokens: (N,) integers. One row scores all but the first; more rows leave out the remainder, as released.
        length: number of tokens in a window.
        batch_size: number of rows that the text is cut into, each of which starts without memory.
        stride: number of tokens by which windows advance. Less than `length` reads some tokens again, which gives the
            scored ones more context in their own segment. None for `length`, the released protocol.

    Raises:
        ValueError: the text is shorter than two tokens per row, or `stride` is not from 1 to `length`.
    """
    stride = length if stride is None else stride
    width = len(tokens) // batch_size
    if not 1 <= stride <= length:
        raise ValueError(f"stride must be from 1 to length = {length}, got {stride}")
    if width < 2:
        raise ValueError(f"{len(tokens)} tokens are too few for {batch_size} rows of at least two; use fewer rows")
    table = rearrange(tokens[: batch_size * width], "(row t) -> row t", row=batch_size).long()
    begin = done = 0
    while done < width - 1:
        end = min(begin + length, width - 1)
        following = min(begin + stride, width - 1)
        again = end - following if end < width - 1 else 0
        yield Window(table[:, begin:end], table[:, begin + 1 : end + 1], scored=end - done, again=again, begin=begin)
        begin, done = begin + stride, end


def _rolled(tokens: Tensor, epoch: int, seed: int) -> Tensor:
    return torch.roll(tokens, -int(item_rng(seed, epoch, 0).integers(len(tokens))))
