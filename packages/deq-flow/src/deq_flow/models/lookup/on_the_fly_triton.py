"""Correlations computed on the fly by Triton kernels, on a GPU in place of `on_the_fly.products`.

Each program computes the window of one cell of the first image: it reads the window's cells from the second image's
features, in blocks of channels, and sums the products. There are no intermediate results in memory and no host syncs.
Gradients of the second image's features are added atomically, so their last bits depend on the order.
"""

from typing import Any

import torch
import triton  # pyright: ignore[reportMissingImports]  only where a GPU is used, and in tests
import triton.language as tl  # pyright: ignore[reportMissingImports]
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = 32
"""Number of channels that a program reads at a time."""


def products(source: Tensor, target: Tensor, left: Tensor, top: Tensor, side: int) -> Tensor:
    """Products <source[n], target at (row, column)> over windows of side x side cells: (B N, side^2), the column slow.

    Args:
        source: (B, N, C) features of the first image
        target: (B, h, w, C) features of the second
        left, top: (B N,) int32, first column and row of each window; cells outside the map count as zero
    """
    return _Products.apply(source, target, left, top, side)  # pyright: ignore[reportReturnType]


class _Products(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, source: Tensor, target: Tensor, left: Tensor, top: Tensor, side: int) -> Tensor:
        source, target = source.contiguous(), target.contiguous()
        ctx.save_for_backward(source, target, left, top)
        ctx.side = side
        out = source.new_empty(len(left), side**2)
        launch: Any = _forward
        launch[(len(left),)](source, target, left, top, out, *_sizes(source, target, side))
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]  the decorator's
        source, target, left, top = ctx.saved_tensors
        grad_source, grad_target = torch.empty_like(source), torch.zeros_like(target)
        sizes = _sizes(source, target, ctx.side)
        launch: Any = _backward
        launch[(len(left),)](source, target, left, top, grads[0].contiguous(), grad_source, grad_target, *sizes)
        return grad_source, grad_target, None, None, None


def _sizes(source: Tensor, target: Tensor, side: int) -> tuple[int, ...]:
    """Sizes for a kernel: cells of a sample, channels, height and width of the second map, then the constants."""
    _, height, width, channels = target.shape
    return source.shape[1], channels, height, width, side, triton.next_power_of_2(side**2), BLOCK


@triton.jit
def _window(left, top, cell, cells, channels, height, width, SIDE: tl.constexpr, PLACES: tl.constexpr):
    """Offsets of the features of the window's places, and a mask of the places inside the window and the map."""
    place = tl.arange(0, PLACES)
    column = tl.load(left + cell) + place // SIDE
    row = tl.load(top + cell) + place % SIDE
    inside = (place < SIDE * SIDE) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    start = (((cell // cells) * height + row) * width + column) * channels
    return start, inside


@triton.jit
def _forward(
    source,
    target,
    left,
    top,
    out,
    cells,
    channels,
    height,
    width,
    SIDE: tl.constexpr,
    PLACES: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    cell = tl.program_id(0).to(tl.int64)
    start, inside = _window(left, top, cell, cells, channels, height, width, SIDE, PLACES)
    total = tl.zeros((PLACES,), dtype=source.dtype.element_ty)
    for first in range(0, channels, CHANNELS):
        channel = first + tl.arange(0, CHANNELS)
        known = channel < channels
        here = tl.load(source + cell * channels + channel, mask=known, other=0.0)
        there = tl.load(target + start[:, None] + channel[None, :], mask=inside[:, None] & known[None, :], other=0.0)
        total += tl.sum(here[None, :] * there, axis=1)
    place = tl.arange(0, PLACES)
    tl.store(out + cell * SIDE * SIDE + place, total, mask=place < SIDE * SIDE)


@triton.jit
def _backward(
    source,
    target,
    left,
    top,
    grad,
    grad_source,
    grad_target,
    cells,
    channels,
    height,
    width,
    SIDE: tl.constexpr,
    PLACES: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    cell = tl.program_id(0).to(tl.int64)
    start, inside = _window(left, top, cell, cells, channels, height, width, SIDE, PLACES)
    weight = tl.load(grad + cell * SIDE * SIDE + tl.arange(0, PLACES), mask=inside, other=0.0)
    for first in range(0, channels, CHANNELS):
        channel = first + tl.arange(0, CHANNELS)
        known = channel < channels
        both = inside[:, None] & known[None, :]
        here = tl.load(source + cell * channels + channel, mask=known, other=0.0)
        there = tl.load(target + start[:, None] + channel[None, :], mask=both, other=0.0)
        tl.store(grad_source + cell * channels + channel, tl.sum(weight[:, None] * there, axis=0), mask=known)
        tl.atomic_add(grad_target + start[:, None] + channel[None, :], weight[:, None] * here[None, :], mask=both)
