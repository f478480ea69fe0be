"""Four fixed-point problems that distinguish solvers, in float64 and deterministic."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d


@dataclass(frozen=True)
class Problem:
    """A fixed-point problem z = f(z).

    Attributes:
        f: map from (B, ...) to the same shape.
        z0: initial state.
        parameters: tensors in the closure of f.
    """

    f: Callable[[Tensor], Tensor]
    z0: Tensor
    parameters: tuple[Tensor, ...]


def contractive() -> Problem:
    """tanh(W z + x), (32, 256), with a symmetric W of norm 0.9 and x ~ N(0, 1)."""
    return _tanh(_symmetric(_normal(0, 256, 256), 0.9), _normal(1, 32, 256))


def stiff() -> Problem:
    """tanh(W z + x), (8, 128), with a symmetric W of norm 1 and a small x, so that tanh hardly contracts."""
    return _tanh(_symmetric(_normal(2, 128, 128), 1.0), 0.05 * _normal(3, 8, 128))


def expanding() -> Problem:
    """tanh(V z) + x - 1.5 z, (8, 64), with |V| = 0.4: well-posed, but plain iteration diverges."""
    weight, inject = _normal(4, 64, 64), _normal(5, 8, 64)
    weight = 0.4 * weight / torch.linalg.matrix_norm(weight, 2)
    return Problem(lambda z: torch.tanh(z @ weight.T) + inject - 1.5 * z, torch.zeros_like(inject), (weight, inject))


def convolution(shape: tuple[int, int, int, int] = (2, 32, 24, 24)) -> Problem:
    """tanh(K * z + x) on images (B, C, H, W), with a symmetric 3x3 K of operator norm 0.9 and x ~ 0.3 N(0, 1)."""
    channels = shape[1]
    kernel, vector = _normal(6, channels, channels, 3, 3), _normal(7, 1, *shape[1:])
    kernel = kernel + kernel.transpose(0, 1).flip(2, 3)
    for _ in range(200):
        vector = conv_transpose2d(conv2d(vector / vector.norm(), kernel, padding=1), kernel, padding=1)
    kernel = 0.9 * kernel / vector.norm().sqrt()
    inject = 0.3 * _normal(8, *shape)
    return Problem(
        lambda z: torch.tanh(conv2d(z, kernel, padding=1) + inject), torch.zeros_like(inject), (kernel, inject)
    )


PROBLEMS: dict[str, Callable[[], Problem]] = {
    "contractive": contractive,
    "stiff": stiff,
    "expanding": expanding,
    "convolution": convolution,
}


def _tanh(weight: Tensor, inject: Tensor) -> Problem:
    return Problem(lambda z: torch.tanh(z @ weight.T + inject), torch.zeros_like(inject), (weight, inject))


def _symmetric(weight: Tensor, norm: float) -> Tensor:
    weight = weight + weight.T
    return norm * weight / torch.linalg.matrix_norm(weight, 2)


def _normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
