"""Correlations computed on the fly, tile by tile, in memory that is linear in the number of pixels.

If flow is smooth, the windows of a tile of neighbouring cells are close together in the other image. So each tile takes
one matrix product with the rectangle around all its windows, from which the windows are gathered. At 1080p that is some
hundred times fewer multiplications than with the whole map. If the flow varies so much that the rectangle is large, the
cells of the windows are gathered first instead.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

TILE = {"cpu": 8}
"""Side of a tile at full resolution, in cells; it doubles with each level, as the reach of windows does. Devices other
than the CPU have LARGE_TILE, because there the number of operations matters more than their size."""
LARGE_TILE = 32

GATHER = 200
"""Cost of a multiplication of gathered rows relative to one in a matrix product, as about measured on a CPU."""


@dataclass(frozen=True)
class Window:
    """Cells of the second image whose correlations are read, for each of N cells of the first.

    Attributes:
        columns, rows: (N, s) coordinates in the second image's map; its width, or height, means outside
        grid: height and width of the first image's map, N cells
        size: height and width of the second image's map
        level: pyramid level, which sets the side of a tile
    """

    columns: Tensor
    rows: Tensor
    grid: tuple[int, int]
    size: tuple[int, int]
    level: int


def products(source: Tensor, target: Tensor, window: Window) -> Tensor:
    """Products <source[n], target at (row, column)> over the window of each cell: (N, s^2), the column slow.

    Args:
        source: (N, C) features of the first image
        target: (h + 1, w + 1, C) features of the second, followed by a row and a column of zeros
    """
    if torch.is_grad_enabled() and (source.requires_grad or target.requires_grad):
        return _Products.apply(source, target, window.columns, window.rows, window)  # pyright: ignore[reportReturnType]
    return _forward(source, target, window)


def _forward(source: Tensor, target: Tensor, window: Window) -> Tensor:
    out, cells = [], []
    for tile in _tiles(window, target):
        block = source[tile.cells]
        if tile.gathered:
            out.append(torch.bmm(target.flatten(0, 1)[tile.places], block[:, :, None]).squeeze(2))
        else:
            out.append((block @ tile.part(target).mT).gather(1, tile.places))
        cells.append(tile.cells)
    return torch.cat(out)[torch.cat(cells).argsort()]


class _Products(torch.autograd.Function):
    """`products` that saves only its inputs for the backward pass."""

    @staticmethod
    def forward(ctx, source: Tensor, target: Tensor, columns: Tensor, rows: Tensor, window: Window) -> Tensor:
        ctx.save_for_backward(source, target, columns, rows)
        ctx.about = (window.grid, window.size, window.level)
        return _forward(source, target, window)

    @staticmethod
    def backward(ctx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        source, target, columns, rows = ctx.saved_tensors
        (grad,) = grads
        grad_source, cells = [], []
        grad_target = target.new_zeros(target.shape)
        for tile in _tiles(Window(columns, rows, *ctx.about), target):
            block, weight = source[tile.cells], grad[tile.cells]
            cells.append(tile.cells)
            if tile.gathered:
                grad_source.append(torch.bmm(weight[:, None], target.flatten(0, 1)[tile.places]).squeeze(1))
                spread = (weight[:, :, None] * block[:, None]).flatten(0, 1)
                grad_target.view(-1, target.shape[2]).index_add_(0, tile.places.flatten(), spread)
            else:
                part = tile.part(target)
                spread = weight.new_zeros(len(block), len(part)).scatter_add(1, tile.places, weight)
                grad_source.append(spread @ part)
                top, bottom, left, right = tile.bounds
                inner = (spread.mT @ block).view(bottom - top + 1, right - left + 1, -1)[:-1, :-1]
                grad_target[top:bottom, left:right] += inner
        return torch.cat(grad_source)[torch.cat(cells).argsort()], grad_target, None, None, None


@dataclass(frozen=True)
class _Tile:
    """Neighbouring cells and the places of their windows.

    Attributes:
        cells: (n,) indices of the cells in the first image
        bounds: top, bottom, left and right of the rectangle around the windows, bottom and right exclusive
        gathered: whether the rectangle is so large that gathering the windows' cells is faster
        places: (n, s^2) flat indices of the windows' cells, in the rectangle with its zeros, or in the whole map if
            gathered
    """

    cells: Tensor
    bounds: tuple[int, int, int, int]
    gathered: bool
    places: Tensor

    def part(self, target: Tensor) -> Tensor:
        """The rectangle of `target`, followed by a row and a column of zeros, flattened to (places, C)."""
        top, bottom, left, right = self.bounds
        return F.pad(target[top:bottom, left:right], (0, 0, 0, 1, 0, 1)).flatten(0, 1)


def _tiles(window: Window, target: Tensor) -> Iterator[_Tile]:
    (height, width), (tall, wide) = window.grid, window.size
    side = TILE.get(target.device.type, LARGE_TILE) << window.level
    grid = torch.arange(height * width, device=target.device).view(height, width)
    tiles = [part for rows in grid.split(side) for part in rows.split(side, dim=1)]
    for part, bounds in zip(tiles, _bounds(window, side), strict=True):
        cells = part.flatten()
        top, bottom, left, right = bounds
        columns, rows = window.columns[cells], window.rows[cells]
        gathered = (bottom - top + 1) * (right - left + 1) > GATHER * columns.shape[1] ** 2
        if not gathered:
            columns = torch.where(columns == wide, right - left, columns - left)
            rows = torch.where(rows == tall, bottom - top, rows - top)
        stride = (wide if gathered else right - left) + 1
        places = columns[:, :, None] + rows[:, None, :] * stride
        yield _Tile(cells, bounds, gathered, places.flatten(1))


def _bounds(window: Window, side: int) -> list[tuple[int, int, int, int]]:
    """The rectangle around the windows of each tile, in row-major order."""
    (height, width), (tall, wide) = window.grid, window.size
    ends = []
    for places, length in ((window.rows, tall), (window.columns, wide)):
        inside = places < length
        first = torch.where(inside, places, length).amin(1)
        last = torch.where(inside, places, -1).amax(1) + 1
        ends += [-first, last]
    cells = torch.stack(ends).view(1, 4, height, width).float()
    low_top, bottom, low_left, right = F.max_pool2d(cells, side, ceil_mode=True).flatten(2)[0].long().tolist()
    # A tile whose windows are all outside has first > last; it gets an empty rectangle.
    return [(min(-a, b), b, min(-c, d), d) for a, b, c, d in zip(low_top, bottom, low_left, right, strict=True)]
