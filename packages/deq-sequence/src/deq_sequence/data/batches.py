"""A stream of tokens as batches of segments, each going on where the one before ended."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from deq_core.experiment.seeding import item_rng


@dataclass(frozen=True)
class TokenBatch:
    """Segments of several parts of a text, read side by side.

    Attributes:
        tokens: (B, T)
        targets: (B, T) the token after each
        first: whether these are the beginnings: a memory is to be forgotten before
        lane: which of several memories is theirs; see `batches`
    """

    tokens: Tensor
    targets: Tensor
    first: bool
    lane: int = 0


@dataclass(frozen=True)
class Window:
    """A segment to measure a model on.

    Attributes:
        tokens, targets: (B, T)
        scored: of the T predictions, the last so many count; those before were counted already
        again: how many of the tokens come again in the next window, so are not to be remembered before it
        begin: how many tokens of each row come before
    """

    tokens: Tensor
    targets: Tensor
    scored: int
    again: int
    begin: int


def batches(
    tokens: Tensor, *, batch_size: int, length: int, seed: int = 0, shift: bool = False, lanes: int = 1
) -> Callable[[int], Iterator[TokenBatch]]:
    """A stream of batches without end that may begin anywhere: `batches(...)(start)` yields batch start, start + 1, ...

    The text is cut into batch_size * lanes rows of equal length, a rest left out, and every epoch reads them from left
    to right, `length` tokens at a time; the last segment of an epoch may be shorter. This is the released protocol.
    Which batch comes at a number depends on the seed and the number alone.

    Args:
        tokens: (N,) integers, the training text.
        batch_size: rows of a batch.
        length: tokens of a segment.
        seed: of the shifts.
        shift: begin each epoch at a random place of the text, whose end goes on at its beginning, so that rows and
            segments are cut elsewhere. The release does not.
        lanes: batches that share a step (processes, or batches accumulated to one update). Batch k is of lane
            k % lanes, and each lane reads rows, and has a memory, of its own.

    Raises:
        ValueError: the text is shorter than two tokens a row.
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
    """A text cut for measurement: every row's tokens but its first are scored once, from left to right.

    Args:
        tokens: (N,) integers. With one row all but the first are scored; with more, a rest is left out, as released.
        length: tokens of a window.
        batch_size: rows the text is cut into, each of which begins without memory.
        stride: tokens by which windows advance. Less than `length` reads some tokens again, so that those scored have
            more of the text in their own segment; None is `length`, the released protocol.
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
