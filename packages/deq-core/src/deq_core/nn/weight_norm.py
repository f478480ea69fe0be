"""Weight normalisation of affine layers, by torch's parametrisations."""

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvTransposeNd
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

from .._solve.modes import may_look
from .._solve.norms import measured

_AFFINE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)

Module = TypeVar("Module", bound=nn.Module)


def weight_norm_(
    module: Module, skip: Sequence[str] = (), *, length: float | None = None, clip: float | None = None
) -> Module:
    """Normalises the weight of every linear and convolution layer in `module`, in place, and returns `module`.

    Each weight becomes g · v / |v|, with a norm g for each output channel (Salimans & Kingma, NeurIPS 2016). A solve
    computes it once. Without `length` and `clip` it is torch's own parametrisation, which also loads checkpoints with
    the older keys `weight_g` and `weight_v`.

    Args:
        module: the cell.
        skip: names of layers to leave alone, or of modules whose layers are, as in `named_modules`.
        length: a constant g, above 0. `None` learns g for each channel, starting from the norm of the weight.
        clip: maximum of the factor g / |v|; with 1 a weight may become shorter but not longer.

    Raises:
        ValueError: nothing to normalise, a weight that is parametrised already, a name in `skip` that does not
            exist, or a `length` or `clip` that is not positive.
    """
    for name, value in (("length", length), ("clip", clip)):
        if value is not None and not value > 0:
            raise ValueError(f"{name} must be None or above 0, got {value!r}")
    for name, layer in affine_layers(module, skip):
        if parametrize.is_parametrized(layer, "weight"):
            raise ValueError(f"the weight of {name!r} is parametrised already: apply weight_norm_ once")
        dim = output_dimension(layer)
        if length is None and clip is None:
            weight_norm(layer, dim=dim)
        else:
            parametrize.register_parametrization(layer, "weight", WeightNorm(dim, length, clip))
    return module


class WeightNorm(nn.Module):
    """Weight normalisation with a constant norm or a bounded factor, which torch's does not have."""

    def __init__(self, dim: int, length: float | None, clip: float | None) -> None:
        super().__init__()
        self.dim, self.length, self.clip = dim, length, clip

    def forward(self, *originals: Tensor) -> Tensor:
        """The weight from (g, v), or from v alone if the norm is constant."""
        v = originals[-1]
        length = originals[0] if self.length is None else self.length
        factor = length / channel_norms(v, self.dim)
        return v * (factor if self.clip is None else factor.clamp_max(self.clip))

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor] | Tensor:
        """The arguments of `forward` that give this weight, as far as `length` and `clip` allow."""
        return (channel_norms(weight, self.dim), weight) if self.length is None else weight

    def extra_repr(self) -> str:
        return f"length={self.length}, clip={self.clip}"


def channel_norms(weight: Tensor, dim: int) -> Tensor:
    """Euclidean norms of the slices of a weight along `dim`, with the other dimensions of size 1."""
    rows = weight.transpose(0, dim)
    norm = lambda rows: torch.norm_except_dim(rows.transpose(0, dim), 2, dim).flatten()  # noqa: E731  with its `dim`
    shape = [size if axis == dim else 1 for axis, size in enumerate(weight.shape)]
    return measured(norm, rows, look=may_look(rows)).value().to(weight.dtype).reshape(shape)


def output_dimension(layer: nn.Module) -> int:
    """The dimension of the output channels in the weight."""
    return 1 if isinstance(layer, _ConvTransposeNd) else 0


def affine_layers(module: nn.Module, skip: Sequence[str]) -> list[tuple[str, nn.Module]]:
    """The linear and convolution layers with their names, except those in `skip`."""
    names = dict(module.named_modules())
    if unknown := [name for name in skip if name not in names]:
        raise ValueError(f"skip names no module: {unknown}; there are {[name for name in names if name]}")
    layers: list[tuple[str, nn.Module]] = [
        (name, layer)
        for name, layer in names.items()
        if isinstance(layer, _AFFINE) and not any(name == s or name.startswith(f"{s}.") for s in skip)
    ]
    if not layers:
        raise ValueError(f"{type(module).__name__} has no linear or convolution layer outside skip={list(skip)}")
    return layers
