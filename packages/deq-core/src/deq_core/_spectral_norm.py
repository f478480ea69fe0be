"""Spectral normalisation of every affine layer, one power iteration a solve."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.modules.conv import _ConvTransposeNd
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _SpectralNorm

from ._scope import current_scope
from ._weight_norm import Module, affine_layers


def spectral_norm_(module: Module, skip: Sequence[str] = (), *, bound: float = 1.0, iterations: int = 1) -> Module:
    """Gives the weight of every linear and convolution layer in `module` the spectral norm `bound`, in place.

    torch's own parametrisation (Miyato et al., ICLR 2018), with its keys: the largest singular value is estimated by
    power iterations in training mode. Within a solve they run once, so f stays one function until its backward
    pass. A convolution's norm is that of its kernel as a matrix, out channels × rest.

    Args:
        module: the cell; returned.
        skip: names of layers, or of modules whose layers are all left alone, as `named_modules` spells them.
        bound: the spectral norm of every weight. Below 1, a cell of 1-Lipschitz activations contracts.
        iterations: power iterations a solve, or a call outside one.

    Raises:
        ValueError: nothing to normalise, a weight that is parametrised already, an unknown name in `skip`, or a
            bound or number of iterations that is not positive.
    """
    if not bound > 0 or iterations < 1:
        raise ValueError(f"bound must be above 0 and iterations at least 1, got {bound!r} and {iterations!r}")
    for name, layer in affine_layers(module, skip):
        if parametrize.is_parametrized(layer, "weight"):
            raise ValueError(f"the weight of {name!r} is parametrised already: apply spectral_norm_ once")
        weight = layer.get_parameter("weight")
        norm = SpectralNorm(weight, iterations, dim=1 if isinstance(layer, _ConvTransposeNd) else 0)
        norm.bound = bound
        parametrize.register_parametrization(layer, "weight", norm)
    return module


class SpectralNorm(_SpectralNorm):
    """torch's spectral norm, with singular vectors that stay while a solve and its backward pass last."""

    bound: float = 1.0

    def forward(self, weight: Tensor) -> Tensor:
        scope = current_scope()
        if not self.training or scope is None:
            return self.bound * super().forward(weight)
        matrix = self._reshape_weight_to_matrix(weight)
        u, v = scope.once(self, "singular vectors", lambda: self._advance(matrix))
        return weight * (self.bound / torch.vdot(u, torch.mv(matrix, v)))

    def _advance(self, matrix: Tensor) -> tuple[Tensor, Tensor]:
        self._power_method(matrix, self.n_power_iterations)
        vectors: tuple[Tensor, Tensor] = (self.get_buffer("_u").clone(), self.get_buffer("_v").clone())
        return vectors

    def extra_repr(self) -> str:
        return f"bound={self.bound}"
