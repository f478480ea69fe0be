"""Correlations computed when they are read, tile by tile: memory grows with the pixels, not with their square.

The windows of a tile of neighbouring cells lie together in the other image, as far as flow is smooth there. So a tile
is multiplied with the rectangle around all its windows, one matrix product, from which the windows are picked. At
1080p that is some hundred times fewer products than with the whole map; where flow is so wild that the rectangle is
large, the cells of the windows are gathered one by one instead.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

TILE = {"cpu": 8}
"""Side of a tile at full resolution, in cells; twice as long at every level further, where windows reach twice as far.
Elsewhere than on a CPU it is LARGE_TILE, because the number of operations counts more than their size."""
LARGE_TILE = 32

GATHER = 200
"""How many products of a matrix product cost as much as one of gathered rows: about that on a CPU."""


@dataclass(frozen=True)
class Window:
    """Cells whose correlations are read, one row for each of N cells of the first image.

    Attributes:
        columns, rows: (N, s) places in the second image's map; the map's width, or height, stands for outside
        grid: height and width of the first image's map, N cells
        size: height and width of the second image's map
        level: of the pyramid, which sets the side of a tile
    """

    columns: Tensor
    rows: Tensor
    grid: tuple[int, int]
    size: tuple[int, int]
    level: int


def products(source: Tensor, target: Tensor, window: Window) -> Tensor:
    """<source[n], target at (row, column)> for every column, slow, and row of a window: (N, s^2).

    Args:
        source: (N, C) features of the first image
        target: (h + 1, w + 1, C) features of the second, with a row and a column of zeros more
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
    """`products`, of whose inputs alone are saved for the backward pass."""

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
    """Neighbouring cells, and where their windows lie.

    Attributes:
        cells: (n,) of the first image
        bounds: top, bottom, left and right of the rectangle around the windows, the ends excluded
        gathered: whether the rectangle is so large that its cells are better gathered
        places: (n, s^2) flat places of the windows: in the rectangle and its border of zeros, or in the whole map
    """

    cells: Tensor
    bounds: tuple[int, int, int, int]
    gathered: bool
    places: Tensor

    def part(self, target: Tensor) -> Tensor:
        """The rectangle of `target` with a row and a column of zeros more, flat: (places, C)."""
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
    """Of each tile, row by row, the rectangle around its windows."""
    (height, width), (tall, wide) = window.grid, window.size
    ends = []
    for places, length in ((window.rows, tall), (window.columns, wide)):
        inside = places < length
        first = torch.where(inside, places, length).amin(1)
        last = torch.where(inside, places, -1).amax(1) + 1
        ends += [-first, last]
    cells = torch.stack(ends).view(1, 4, height, width).float()
    low_top, bottom, low_left, right = F.max_pool2d(cells, side, ceil_mode=True).flatten(2)[0].long().tolist()
    # A tile that sees nothing has its first place at the end: an empty rectangle.
    return [(min(-a, b), b, min(-c, d), d) for a, b, c, d in zip(low_top, bottom, low_left, right, strict=True)]
