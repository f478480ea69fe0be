"""Weight normalisation of every affine layer, by torch's own parametrisation."""

from collections.abc import Sequence
from typing import TypeVar

from torch import nn
from torch.nn.modules.conv import _ConvTransposeNd
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import weight_norm

_AFFINE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)

Module = TypeVar("Module", bound=nn.Module)


def weight_norm_(module: Module, skip: Sequence[str] = ()) -> Module:
    """Normalises the weight of every linear and convolution layer in `module`, in place, and returns it.

    Each weight becomes g · v / |v|, one length per output channel (Salimans & Kingma, NeurIPS 2016). A solve
    computes it once. Checkpoints with the older `weight_g`, `weight_v` keys load as they are.

    Args:
        module: the cell.
        skip: names of layers, or of modules whose layers are all left alone, as `named_modules` spells them.

    Raises:
        ValueError: nothing to normalise, a weight that is parametrised already, or a name in `skip` that does not
            exist.
    """
    for name, layer in affine_layers(module, skip):
        if parametrize.is_parametrized(layer, "weight"):
            raise ValueError(f"the weight of {name!r} is parametrised already: apply weight_norm_ once")
        weight_norm(layer, dim=1 if isinstance(layer, _ConvTransposeNd) else 0)
    return module


def affine_layers(module: nn.Module, skip: Sequence[str]) -> list[tuple[str, nn.Module]]:
    """The linear and convolution layers with their names, those under `skip` left out."""
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
