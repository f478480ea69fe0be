"""Correlation between all pairs of positions, pooled to a pyramid and read in windows (Teed & Deng 2020, 3.2)."""

import importlib.util
import math
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from deq_flow.models.fast_paths import inference_only
from deq_flow.models.lookup.on_the_fly import Window, products

VOLUME_LIMIT = 2**28
"""Number of entries (1 GiB in float32) above which `kind="auto"` computes windows on the fly."""

COSINE_SCALE = 100.0
"""Factor of the cosine. Correlations of untrained features then have a standard deviation of about 4, as dot products
of centred features have; at 10, one in two mini trainings does not learn to use its correlations in 1000 steps."""


class Lookup(Protocol):
    """Correlation windows around target positions."""

    def __call__(self, position: Tensor) -> Tensor:
        """Correlations (B, levels * (2r + 1)^2, h, w) in the windows around `position` (B, 2, h, w), in cells (x, y).

        Channels are level-major; within a level the x offset is the slow index: channel a * (2r + 1) + b has the value
        at (x + a - r, y + b - r). Released weights depend on this order. Values outside the map are zero.
        """
        ...


def correlation(
    features1: Tensor,
    features2: Tensor,
    *,
    levels: int = 4,
    radius: int = 4,
    kind: Literal["auto", "all-pairs", "on-the-fly"] = "auto",
    similarity: Literal["dot", "cosine"] = "dot",
) -> Lookup:
    """A lookup into <f1(i), f2(j)> / sqrt(C), from features (B, C, h, w).

    With "cosine", the values are COSINE_SCALE times the cosine between the features minus their mean over the map.

    Pooling the volume over j equals pooling f2, so level k is computed from f2 averaged over 2^k x 2^k cells. A side
    of one cell is not pooled further, so that any size from 2x2 up works. Half-precision features are converted:
    correlations, positions and windows are float32 under autocast.
    """
    batch, channels, height, width = features1.shape
    wide = torch.promote_types(features1.dtype, torch.float32)
    with torch.autocast(features1.device.type, enabled=False):
        first, second, scale = features1.to(wide), features2.to(wide), 1 / math.sqrt(channels)
        if similarity == "cosine":
            first, second = (F.normalize(x - x.mean(dim=(2, 3), keepdim=True), dim=1) for x in (first, second))
            scale = COSINE_SCALE
        source = first.flatten(2).mT * scale  # (B, N, C)
        maps = _pyramid(second, levels)

        if kind == "auto":
            entries = batch * height * width * sum(level[0, 0].numel() for level in maps)
            kind = "all-pairs" if entries <= VOLUME_LIMIT else "on-the-fly"
        if kind == "all-pairs":
            return AllPairs(source, maps, radius)
        return (ByKernel if kernel_runs(source) else OnTheFly)(source, maps, radius)


class AllPairs:
    """Lookup into a stored correlation volume, which is read row by row of a window. The levels of a cell are adjacent.

    Args:
        source: (B, N, C) features of the first image, times 1 / sqrt(C) or COSINE_SCALE
        maps: (B, C, h_k, w_k) features of the second image at each level

    Each row of a map is preceded by as many zeros as a window has columns. Windows that extend beyond the left or right
    border read these. A row of a window that is entirely outside reads the zeros at the start of its cell's entries.
    """

    def __init__(self, source: Tensor, maps: list[Tensor], radius: int) -> None:
        self.radius, self.side = radius, 2 * radius + 2
        self.sizes = [level.shape[2:] for level in maps]
        rows = [rearrange(F.pad(level, (self.side, 0)), "b c h w -> b c (h w)") for level in maps]
        targets = torch.cat(rows, dim=2)
        # Windows reach beyond the last row's end too. With a multiple of 16 columns, MKL needs two thirds of the time.
        targets = F.pad(targets, (0, self.side + -(targets.shape[2] + self.side) % 16))
        self.volume = rearrange(source @ targets, "b n entries -> (b n) entries")

    def __call__(self, position: Tensor) -> Tensor:
        side, device = self.side, position.device
        cells, entries = self.volume.shape
        first = side  # entry at which a level's first row begins, after its zeros
        starts, fractions = [], []
        for k, (height, width) in enumerate(self.sizes):
            left, top, fraction = _window(position / 2**k, self.radius)
            rows = top[:, None] + torch.arange(side, device=device)
            seen = (rows >= 0) & (rows < height) & ((left > -side) & (left < width))[:, None]
            starts.append(torch.where(seen, first + left[:, None] + rows * (width + side), 0))
            fractions.append(fraction)
            first += height * (width + side)
        start = torch.stack(starts, dim=1) + (entries * torch.arange(cells, device=device))[:, None, None]
        patch = rearrange(_runs(self.volume.flatten(), start.flatten(), side), "(n y) x -> n y x", y=side)
        x, y = rearrange(torch.stack(fractions, dim=2), "xy n level -> xy (n level) 1 1")
        patch = torch.lerp(patch[:, :, :-1], patch[:, :, 1:], x)
        patch = torch.lerp(patch[:, :-1], patch[:, 1:], y)
        return _as_map(rearrange(patch, "(n level) y x -> n (level x y)", n=cells), position)


class OnTheFly:
    """Lookup that computes windows when they are read; its memory is linear in the number of pixels. See `AllPairs`."""

    def __init__(self, source: Tensor, maps: list[Tensor], radius: int) -> None:
        self.radius = radius
        self.sizes = [level.shape[2:] for level in maps]
        self.source = source
        # The added row and column of zeros are read for places outside; the features of a cell are adjacent.
        self.targets = [rearrange(F.pad(level, (0, 1, 0, 1)), "b c h w -> b h w c").contiguous() for level in maps]

    def __call__(self, position: Tensor) -> Tensor:
        grid = (position.shape[2], position.shape[3])
        windows = []
        for k, (target, (height, width)) in enumerate(zip(self.targets, self.sizes, strict=True)):
            left, top, fraction = _window(position / 2**k, self.radius)
            offsets = torch.arange(2 * self.radius + 2, device=left.device)
            columns, rows = left[:, None] + offsets, top[:, None] + offsets
            columns = torch.where((columns < 0) | (columns >= width), width, columns)
            rows = torch.where((rows < 0) | (rows >= height), height, rows)
            samples = zip(self.source, target, columns.chunk(len(target)), rows.chunk(len(target)), strict=True)
            patches = [
                products(source, features, Window(column, row, grid, (height, width), k))
                for source, features, column, row in samples
            ]
            windows.append(_interpolate(torch.cat(patches), fraction, self.radius))
        return _as_map(torch.cat(windows, dim=1), position)


class ByKernel:
    """`OnTheFly` with Triton kernels, for a GPU."""

    def __init__(self, source: Tensor, maps: list[Tensor], radius: int) -> None:
        self.radius, self.source = radius, source
        self.targets = [rearrange(level, "b c h w -> b h w c").contiguous() for level in maps]

    def __call__(self, position: Tensor) -> Tensor:
        from deq_flow.models.lookup import on_the_fly_triton as kernel  # needs Triton, which is not everywhere

        side = 2 * self.radius + 2
        windows = []
        for k, target in enumerate(self.targets):
            place = rearrange(position / 2**k, "b xy h w -> xy (b h w)")
            floor = place.detach().floor()
            first = (floor - self.radius).nan_to_num(-side)
            left, top = (
                corner.clamp(-side, length).int() for corner, length in zip(first, target.shape[2:0:-1], strict=True)
            )
            patch = kernel.products(self.source, target, left, top, side)
            windows.append(_interpolate(patch, place - floor, self.radius))
        return _as_map(torch.cat(windows, dim=1), position)


def kernel_runs(features: Tensor) -> bool:
    """Whether `ByKernel` computes the windows of `features`.

    It does if Triton is installed, on AMD GPUs and on NVIDIA GPUs of compute capability 8.0 or higher; but not during
    compilation, and not with `torch.use_deterministic_algorithms`, because its order of summation varies.
    """
    if not features.is_cuda or importlib.util.find_spec("triton") is None:
        return False
    capable = torch.version.hip is not None or torch.cuda.get_device_capability(features.device) >= (8, 0)
    return capable and not (torch.compiler.is_compiling() or torch.are_deterministic_algorithms_enabled())


def _pyramid(features: Tensor, levels: int) -> list[Tensor]:
    """Features averaged over 1, 2, 4, ... cells; odd sizes are rounded down, a side of one cell is kept."""
    maps = [features]
    for _ in range(levels - 1):
        height, width = maps[-1].shape[2:]
        maps.append(F.avg_pool2d(maps[-1], (min(2, height), min(2, width))))
    return maps


def _window(position: Tensor, radius: int) -> tuple[Tensor, Tensor, Tensor]:
    """First column and first row (B N,) of the (2r + 2)^2 cells around positions, and their fractions (2, B N)."""
    place = rearrange(position, "b xy h w -> xy (b h w)")
    floor = place.detach().floor()
    left, top = floor.long() - radius
    return left, top, place - floor


def _runs(values: Tensor, start: Tensor, length: int) -> Tensor:
    """(n, length) slices of values (m,) that begin at start (n,); the fast path copies each slice as a whole."""
    if inference_only(values):
        return values.unfold(0, length, 1).index_select(0, start)
    places = start[:, None] + torch.arange(length, device=start.device)
    if not torch.compiler.is_compiling() and len(values) < 2**31:
        places = places.int()  # half the memory, as autograd keeps them
    return values.index_select(0, places.flatten()).view(-1, length)


def _interpolate(patch: Tensor, fraction: Tensor, radius: int) -> Tensor:
    """Bilinear interpolation (B N, (2r + 1)^2) between (2r + 2)^2 cells; a window has one fraction for all places."""
    x, y = rearrange(fraction, "xy n -> xy n 1 1")
    patch = rearrange(patch, "n (x y) -> n x y", x=2 * radius + 2)
    patch = torch.lerp(patch[:, :-1], patch[:, 1:], x)
    return torch.lerp(patch[:, :, :-1], patch[:, :, 1:], y).flatten(1)


def _as_map(windows: Tensor, position: Tensor) -> Tensor:
    """Windows (B N, values) of the cells of `position` (B, 2, h, w) as a map (B, values, h, w)."""
    return rearrange(windows, "(b h w) values -> b values h w", h=position.shape[2], w=position.shape[3])
