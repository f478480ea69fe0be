"""Spectral normalisation of affine layers, with power iterations once a solve."""

import threading
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _SpectralNorm

from .._scope.scope import once_a_solve
from .._solve.modes import may_look
from .._solvers.scaled import scale_to_ordinary
from .weight_norm import Module, affine_layers, output_dimension


def spectral_norm_(
    module: Module,
    skip: Sequence[str] = (),
    *,
    bound: float = 1.0,
    iterations: int = 1,
    learned: bool = False,
    clip: float | None = None,
) -> Module:
    """Gives the weight of every linear and convolution layer in `module` the spectral norm `bound`; returns `module`.

    torch's own parametrisation (Miyato et al., ICLR 2018), with its keys: power iterations in training mode estimate
    the largest singular value σ. They run once a solve, so that f stays the same function until the backward pass. The
    norm of a convolution is that of its kernel as a matrix, out channels × rest. The norm of the convolution itself may
    be up to √(kernel area) times as large.

    Args:
        module: the cell, which is changed in place.
        skip: names of layers to leave alone, or of modules whose layers are, as in `named_modules`.
        bound: spectral norm of each weight. Below 1, linear layers and 1-Lipschitz activations make a contraction.
        iterations: number of power iterations a solve, or a call outside of one.
        learned: make the norm a parameter `scale` of each output channel, which starts at `bound` but is not bounded by
            it. It is one more key than torch's.
        clip: maximum of the factor norm / σ; with 1 a weight may become smaller but not larger.

    Raises:
        ValueError: nothing to normalise, a weight that is parametrised already, an unknown name in `skip`, or a
            bound, clip or number of iterations that is not positive.
    """
    if not bound > 0 or iterations < 1:
        raise ValueError(f"bound must be above 0 and iterations at least 1, got {bound!r} and {iterations!r}")
    if clip is not None and not clip > 0:
        raise ValueError(f"clip must be None or above 0, got {clip!r}")
    for name, layer in affine_layers(module, skip):
        if parametrize.is_parametrized(layer, "weight"):
            raise ValueError(f"the weight of {name!r} is parametrised already: apply spectral_norm_ once")
        norm = SpectralNorm(layer.get_parameter("weight"), iterations, output_dimension(layer), bound, learned, clip)
        parametrize.register_parametrization(layer, "weight", norm)
    return module


# Power iterations write into buffers, which no other thread may read meanwhile.
_ADVANCING = threading.Lock()


class SpectralNorm(_SpectralNorm):
    """torch's spectral norm, with singular vectors that stay the same throughout a solve and its backward pass."""

    def __init__(
        self, weight: Tensor, iterations: int, dim: int, bound: float, learned: bool, clip: float | None
    ) -> None:
        super().__init__(weight, iterations, dim=dim)
        self.bound, self.clip = bound, clip
        shape = [size if axis == dim else 1 for axis, size in enumerate(weight.shape)]
        self.scale = nn.Parameter(weight.new_full(shape, bound)) if learned else None

    def forward(self, weight: Tensor) -> Tensor:
        matrix = self._reshape_weight_to_matrix(weight)
        u, v = self._vectors(matrix)
        factor = (self.bound if self.scale is None else self.scale) / torch.vdot(u, torch.mv(matrix, v))
        return weight * (factor if self.clip is None else factor.clamp_max(self.clip))

    def _power_method(self, weight_mat: Tensor, n_power_iterations: int) -> None:
        # Scaling does not change singular vectors, but torch clamps norms to at least 1e-12.
        scale = scale_to_ordinary(weight_mat.reshape(1, -1), look=may_look(weight_mat))
        if scale is not None:
            weight_mat = weight_mat * scale.to(weight_mat.dtype)
        super()._power_method(weight_mat, n_power_iterations)

    def _vectors(self, matrix: Tensor) -> tuple[Tensor, Tensor]:
        if not self.training:
            return self._kept()
        return once_a_solve(self, "singular vectors", lambda: self._advance(matrix))

    def _advance(self, matrix: Tensor) -> tuple[Tensor, Tensor]:
        if torch.compiler.is_compiling():
            self._power_method(matrix, self.n_power_iterations)
            return self._kept()
        with _ADVANCING:
            self._power_method(matrix, self.n_power_iterations)
            return self._kept()

    def _kept(self) -> tuple[Tensor, Tensor]:
        return self.get_buffer("_u").clone(), self.get_buffer("_v").clone()

    def extra_repr(self) -> str:
        return f"bound={self.bound}, learned={self.scale is not None}, clip={self.clip}"
