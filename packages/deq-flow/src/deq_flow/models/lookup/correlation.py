"""Correlation between every pair of positions, pooled over four scales and read in windows (Teed & Deng 2020, 3.2)."""

import importlib.util
import math
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from deq_flow.models.fast_paths import free, traced
from deq_flow.models.lookup.on_the_fly import Window, products

VOLUME_LIMIT = 2**28
"""Entries (1 GiB in float32) above which `kind="auto"` computes windows when they are read instead of storing all."""

COSINE_SCALE = 100.0
"""What a cosine of 1 becomes. Untrained features then correlate with a standard deviation of about 4, as dot products
of centred features do; at 10, one in two mini trainings does not come to use its correlations in 1000 steps."""


class Lookup(Protocol):
    """Correlation windows around target positions."""

    def __call__(self, position: Tensor) -> Tensor:
        """Correlation with the windows around `position` (B, 2, h, w) in cells (x, y); (B, levels * (2r + 1)^2, h, w).

        Channels are level-major; within a level the x offset is the slow index: channel a * (2r + 1) + b holds the
        value at (x + a - r, y + b - r). Released weights depend on this order. Outside the map values are zero.
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

    With "cosine" it is COSINE_SCALE times the cosine between features less their mean over the map, whatever their
    length and offset.

    Pooling the volume over j is pooling f2, so level k is computed from f2 averaged over 2^k x 2^k cells. A side of
    one cell is not pooled further, which makes any size from 2x2 up work. Half-precision features are widened:
    correlation, positions and windows are float32 under autocast.
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

        def entries(zeros: int) -> int:
            """Of a volume that holds so many zeros for every row of a map besides."""
            return batch * height * width * sum(level.shape[2] * (level.shape[3] + zeros) for level in maps)

        if kind == "auto":
            kind = "all-pairs" if entries(0) <= VOLUME_LIMIT else "on-the-fly"
        if kind == "all-pairs":
            by_row = free(source) and entries(2 * radius + 2) <= VOLUME_LIMIT
            return (AllPairsByRow if by_row else AllPairs)(source, maps, radius)
        return (ByKernel if kernel_runs(source) else OnTheFly)(source, maps, radius)


class AllPairs:
    """Every correlation stored, (B N, (h_k + 1)(w_k + 1)) a level; reading is a gather.

    source  (B, N, C) features of the first image, divided by sqrt(C)
    maps    (B, C, h_k, w_k) features of the second image at each level
    """

    def __init__(self, source: Tensor, maps: list[Tensor], radius: int) -> None:
        self.radius = radius
        self.sizes = [level.shape[2:] for level in maps]
        # One row and column of zeros more: every position outside a map is sent there, so reading needs no mask.
        self.volumes = [source @ F.pad(level, (0, 1, 0, 1)).flatten(2) for level in maps]

    def __call__(self, position: Tensor) -> Tensor:
        windows = []
        for k, (volume, (height, width)) in enumerate(zip(self.volumes, self.sizes, strict=True)):
            columns, rows, fraction = _window(position / 2**k, self.radius, height, width)
            cell = torch.arange(len(rows), device=rows.device) * volume.shape[2]
            start = cell[:, None] + rows * (width + 1)
            if volume.numel() < 2**31:
                start, columns = start.int(), columns.int()
            index = columns[:, :, None] + start[:, None, :]
            patch = volume.flatten().index_select(0, index.flatten()).view_as(index)
            windows.append(_interpolate(patch, fraction, self.radius))
        return _as_map(torch.cat(windows, dim=1), position)


class AllPairsByRow:
    """`AllPairs` without gradients to the features, on a CPU: a window is copied by rows, not by cells.

    The levels lie behind one another, as one product. Before every row of a map are as many zeros as a row of a window
    has cells: what such a row reads beyond the map's left and right. A row of a window that is outside altogether reads
    the zeros that the correlations of its cell begin with. VOLUME_LIMIT keeps places below 2^31.
    """

    BLOCK = 16
    """A product of a multiple of this many columns takes two thirds of the time of others, with MKL and AVX-512."""

    def __init__(self, source: Tensor, maps: list[Tensor], radius: int) -> None:
        self.radius, self.side = radius, 2 * radius + 2
        targets = torch.cat([F.pad(level, (self.side, 0)).flatten(2) for level in maps], dim=2)
        zeros = self.side + -(targets.shape[2] + self.side) % self.BLOCK  # the last row is read beyond its end too
        self.volume = source @ F.pad(targets, (0, zeros))
        batch, cells, columns = self.volume.shape
        sizes = torch.tensor([level.shape[2:] for level in maps], dtype=torch.int32, device=source.device)
        self.heights, self.widths = sizes.mT
        self.scales = 2 ** torch.arange(len(maps), device=source.device)
        self.offsets = torch.arange(self.side, dtype=torch.int32, device=source.device)
        self.strides = self.widths + self.side
        lengths = self.heights * self.strides
        self.starts = lengths.cumsum(0, dtype=torch.int32) - lengths + self.side  # of the first row, behind its zeros
        self.bases = torch.arange(batch * cells, dtype=torch.int32, device=source.device)[:, None] * columns

    def __call__(self, position: Tensor) -> Tensor:
        side = self.side
        place = position.permute(1, 0, 2, 3).flatten(1)[:, :, None] / self.scales  # (2, B N, levels)
        floor = place.detach().floor()
        left, top = floor.int() - self.radius
        top = top.masked_fill((left <= -side) | (left >= self.widths), -side)
        rows = top[:, :, None] + self.offsets
        start = (self.bases + self.starts + left)[:, :, None] + rows * self.strides[:, None]
        start = torch.where((rows >= 0) & (rows < self.heights[:, None]), start, self.bases[:, :, None])
        runs = self.volume.flatten().unfold(0, side, 1)  # one from every entry
        patch = runs.index_select(0, start.flatten()).view(-1, side * side)
        x, y = (place - floor).flatten(1)[:, :, None]
        patch = torch.lerp(patch[:, :-1], patch[:, 1:], x)  # between a row's end and the next one's start too: unread
        patch = torch.lerp(patch[:, :-side], patch[:, side:], y)
        windows = patch.unfold(1, side - 1, side).mT  # (B N levels, x, y)
        return _as_map(windows.reshape(len(start), -1), position)


class OnTheFly:
    """Correlations computed when they are read: memory grows with the pixels, not their square. See `AllPairs`."""

    def __init__(self, source: Tensor, maps: list[Tensor], radius: int) -> None:
        self.radius = radius
        self.sizes = [level.shape[2:] for level in maps]
        self.source = source
        # (B, h_k + 1, w_k + 1, C), so that the features of a cell lie together
        self.targets = [F.pad(level, (0, 1, 0, 1)).permute(0, 2, 3, 1).contiguous() for level in maps]

    def __call__(self, position: Tensor) -> Tensor:
        grid = (position.shape[2], position.shape[3])
        windows = []
        for k, (target, (height, width)) in enumerate(zip(self.targets, self.sizes, strict=True)):
            columns, rows, fraction = _window(position / 2**k, self.radius, height, width)
            samples = zip(self.source, target, columns.chunk(len(target)), rows.chunk(len(target)), strict=True)
            patches = [
                products(source, features, Window(column, row, grid, (height, width), k))
                for source, features, column, row in samples
            ]
            windows.append(_interpolate(torch.cat(patches), fraction, self.radius))
        return _as_map(torch.cat(windows, dim=1), position)


class ByKernel:
    """`OnTheFly` by kernels in Triton, for a GPU."""

    def __init__(self, source: Tensor, maps: list[Tensor], radius: int) -> None:
        self.radius, self.source = radius, source
        self.targets = [level.permute(0, 2, 3, 1).contiguous() for level in maps]

    def __call__(self, position: Tensor) -> Tensor:
        from deq_flow.models.lookup import on_the_fly_triton as kernel  # needs Triton, which is not everywhere

        side = 2 * self.radius + 2
        windows = []
        for k, target in enumerate(self.targets):
            place = (position / 2**k).permute(1, 0, 2, 3).flatten(1)
            floor = place.detach().floor()
            first = (floor - self.radius).nan_to_num(-side)
            left, top = (
                corner.clamp(-side, length).int() for corner, length in zip(first, target.shape[2:0:-1], strict=True)
            )
            patch = kernel.products(self.source, target, left, top, side)
            windows.append(_interpolate(patch, place - floor, self.radius))
        return _as_map(torch.cat(windows, dim=1), position)


def kernel_runs(features: Tensor) -> bool:
    """Whether windows of `features` are computed by `ByKernel`.

    On NVIDIA GPUs of compute capability 8.0 and on AMD's, where Triton is installed; not in a graph that is being
    recorded, and not where `torch.use_deterministic_algorithms` asks for sums in a fixed order.
    """
    if not features.is_cuda or importlib.util.find_spec("triton") is None:
        return False
    capable = torch.version.hip is not None or torch.cuda.get_device_capability(features.device) >= (8, 0)
    return capable and not (traced() or torch.are_deterministic_algorithms_enabled())


def _pyramid(features: Tensor, levels: int) -> list[Tensor]:
    """Features averaged over 1, 2, 4, ... cells; odd sizes floor, a side of one cell stays."""
    maps = [features]
    for _ in range(levels - 1):
        height, width = maps[-1].shape[2:]
        maps.append(F.avg_pool2d(maps[-1], (min(2, height), min(2, width))))
    return maps


def _window(position: Tensor, radius: int, height: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Columns and rows (B N, 2r + 2) of the cells around positions, and the positions' fractions (2, B N).

    Outside the map a column is `width` and a row is `height`: where a padded map has zeros.
    """
    x, y = position.permute(1, 0, 2, 3).flatten(1)
    offsets = torch.arange(-radius, radius + 2, device=position.device)
    floor = torch.stack([x, y]).detach().floor()
    columns = floor[0].long()[:, None] + offsets
    rows = floor[1].long()[:, None] + offsets
    columns = torch.where((columns < 0) | (columns >= width), width, columns)
    rows = torch.where((rows < 0) | (rows >= height), height, rows)
    return columns, rows, torch.stack([x, y]) - floor


def _interpolate(patch: Tensor, fraction: Tensor, radius: int) -> Tensor:
    """Bilinear values (B N, (2r + 1)^2) from the (2r + 2)^2 cells around them: all share one fraction."""
    side = 2 * radius + 2
    x, y = fraction[:, :, None, None]
    patch = patch.view(-1, side, side)
    patch = torch.lerp(patch[:, :-1], patch[:, 1:], x)
    return torch.lerp(patch[:, :, :-1], patch[:, :, 1:], y).flatten(1)


def _as_map(windows: Tensor, position: Tensor) -> Tensor:
    """(B, values, h, w) from windows (B N, values) of the cells of `position` (B, 2, h, w)."""
    batch, _, height, width = position.shape
    return windows.view(batch, height, width, -1).permute(0, 3, 1, 2)
