"""Counts of what the delta rule computes and skips."""

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

# Several threads may evaluate one cell at once, and adding to a count is not atomic.
_COUNTING = threading.Lock()


@dataclass
class LayerCount:
    """Counts of one layer over all its evaluations. Multiply-accumulates (MACs) are without biases.

    Attributes:
        elements, sent: input elements, and those that were not skipped; a dense evaluation sends all.
        pixels, active: input positions over all channels, and those with any element sent.
        tiles, active_tiles: tiles of 8 x 8 input positions, and those with any element sent; for layers other than
            2D convolutions, positions.
        dense_macs: MACs of dense evaluations: outputs · input channels / groups · kernel area.
        sparse_macs: MACs of the elements sent: their products with each weight that leads to an output, by kernel area,
            stride, dilation, groups and borders.
        release_dense, release_sparse: the same as the DeltaDEQ release counts them, for comparison with its tables. It
            leaves out the kernel area, adds biases and the subtraction, scales the bias with the inputs, and counts the
            zeros of a first, dense input as skipped.
    """

    elements: int = 0
    sent: Tensor | int = 0
    pixels: int = 0
    active: Tensor | int = 0
    tiles: int = 0
    active_tiles: Tensor | int = 0
    dense_macs: int = 0
    sparse_macs: Tensor | int = 0
    release_dense: int = 0
    release_sparse: Tensor | float = 0.0
    _reach: dict[torch.Size, Tensor] = field(default_factory=dict, repr=False)

    def add(self, layer: nn.Module, sent: Tensor, output: Tensor, raw: Tensor, dense: bool) -> None:
        """Counts one evaluation, without waiting for the device.

        Args:
            layer: the linear or convolution layer.
            sent: input of the layer, with zeros for skipped elements.
            output: output of the layer.
            raw: input before the rule.
            dense: whether the evaluation was dense, so that no element was skipped.
        """
        with _COUNTING:
            self._add(layer, sent, output, raw, dense)

    def _add(self, layer: nn.Module, sent: Tensor, output: Tensor, raw: Tensor, dense: bool) -> None:
        rank = spatial_rank(layer)
        channel = sent.dim() - 1 - rank
        mask = torch.ones_like(sent, dtype=torch.bool) if dense else sent != 0
        self.elements += sent.numel()
        count = mask.sum()
        self.sent = self.sent + count
        pixels = mask.any(channel)
        self.pixels += pixels.numel()
        self.active = self.active + pixels.sum()
        tiles = pixels
        if rank == 2:
            planes = pixels.reshape(-1, 1, *pixels.shape[-2:]).float()
            tiles = torch.nn.functional.max_pool2d(planes, 8, ceil_mode=True)
        self.tiles += tiles.numel()
        self.active_tiles = self.active_tiles + tiles.sum(dtype=torch.long)  # float32 cannot count beyond 2^24
        inputs, area = _fan_in(layer)
        macs = output.numel() * inputs * area
        self.dense_macs += macs
        self.sparse_macs = self.sparse_macs + (macs if dense else self._products(layer, mask, output))
        release = output.numel() * inputs + output.numel()
        share = (raw.count_nonzero() if dense else count) / max(1, sent.numel())
        self.release_dense += release
        self.release_sparse = self.release_sparse + release * share.double() + (0 if dense else sent.numel())

    def _products(self, layer: nn.Module, mask: Tensor, output: Tensor) -> Tensor:
        if not isinstance(layer, _ConvNd):
            return mask.sum() * output.shape[-1]
        rank = spatial_rank(layer)
        size = mask.shape[-rank:]
        if size not in self._reach:
            self._reach[size] = _reach(layer, size, output.shape[-rank:]).to(mask.device)
        positions = mask.sum(dim=tuple(range(mask.dim() - rank)), dtype=torch.long)
        return (positions * self._reach[size]).sum() * (layer.out_channels // layer.groups)


class DeltaMeter:
    """Counts of the layers under the delta rule, and their sums; all are 0 before the first counted evaluation.

    Attributes:
        layers: `LayerCount` of each layer, by name.
    """

    def __init__(self, names: list[str]) -> None:
        self.layers = {name: LayerCount() for name in names}
        self._memories: dict[object, object] | None = None

    def reset(self) -> None:
        """Sets all counts to zero."""
        for name in self.layers:
            self.layers[name] = LayerCount()

    def forget(self) -> None:
        """Drops the memories kept across solves, so that the next evaluation is dense: for use after a scene cut."""
        if self._memories is not None:
            self._memories.clear()

    @property
    def sparsity(self) -> float:
        """Share of input elements that were skipped."""
        return _skipped(self._sum("sent"), self._sum("elements"))

    @property
    def pixel_sparsity(self) -> float:
        """Share of positions where all channels were skipped, which hardware that works on pixels can use."""
        return _skipped(self._sum("active"), self._sum("pixels"))

    @property
    def tile_sparsity(self) -> float:
        """Share of 8 x 8 tiles where everything was skipped, which hardware that works on tiles can use."""
        return _skipped(self._sum("active_tiles"), self._sum("tiles"))

    @property
    def dense_macs(self) -> int:
        """MACs of dense evaluations of the same layers."""
        return int(self._sum("dense_macs"))

    @property
    def sparse_macs(self) -> int:
        """MACs of the elements sent."""
        return int(self._sum("sparse_macs"))

    @property
    def release_dense(self) -> float:
        """`dense_macs` as the DeltaDEQ release counts it."""
        return self._sum("release_dense")

    @property
    def release_sparse(self) -> float:
        """`sparse_macs` as the DeltaDEQ release counts it."""
        return self._sum("release_sparse")

    def rows(self) -> list[Mapping[str, str | float]]:
        """Sparsity and MACs of each layer, for a table."""
        return [
            {
                "layer": name,
                "sparsity": _skipped(float(count.sent), count.elements),
                "dense_macs": count.dense_macs,
                "sparse_macs": int(count.sparse_macs),
            }
            for name, count in self.layers.items()
        ]

    def _sum(self, name: str) -> float:
        return sum(float(getattr(count, name)) for count in self.layers.values())


def _skipped(used: float, of: float) -> float:
    """The share that was not used; 0 if there was nothing."""
    return 1 - used / of if of else 0.0


def spatial_rank(layer: nn.Module) -> int:
    """Number of spatial dimensions of a layer's input."""
    return len(layer.kernel_size) if isinstance(layer, _ConvNd) else 0


def _fan_in(layer: nn.Module) -> tuple[int, int]:
    """Number of input channels of one output, and the kernel area."""
    if isinstance(layer, _ConvNd):
        return layer.in_channels // layer.groups, math.prod(layer.kernel_size)
    assert isinstance(layer, nn.Linear)
    return layer.in_features, 1


def _reach(layer: _ConvNd, inputs: torch.Size, outputs: torch.Size) -> Tensor:
    """For each input position, the number of outputs of one channel that depend on it, of shape `inputs`."""
    product = torch.ones((), dtype=torch.long)
    for axis, (size, out) in enumerate(zip(inputs, outputs, strict=True)):
        stride, dilation, kernel = layer.stride[axis], layer.dilation[axis], layer.kernel_size[axis]
        padding = dilation * (kernel - 1) // 2 if layer.padding == "same" else 0
        padding = padding if isinstance(layer.padding, str) else layer.padding[axis]
        at = stride * torch.arange(out)[:, None] + dilation * torch.arange(kernel) - padding
        at = at[(at >= 0) & (at < size)]
        product = product[..., None] * torch.bincount(at, minlength=size)
    return product
