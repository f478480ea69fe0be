"""Dropout inside f, with one mask per solve."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo

from .._scope.scope import once_a_solve


class VariationalDropout(nn.Module):
    """Dropout whose mask is drawn once per solve, so that f stays the same function and has a fixed point.

    Gal & Ghahramani, NeurIPS 2016, for recurrent networks; Bai et al., NeurIPS 2019, for equilibrium models. The
    backward pass uses the same mask. Outside of a solve each call draws a new one, as `nn.Dropout` does. Within
    `torch.utils.checkpoint` inside f it needs `checkpoint_contexts`.

    Args:
        p: probability that an element is zeroed, in [0, 1); the others are scaled by 1 / (1 - p).
        shared: dimensions along which the mask is constant: (2, 3) drops whole channels of an image.
    """

    def __init__(self, p: float = 0.5, *, shared: tuple[int, ...] = ()) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"p is the probability of dropping, at least 0 and below 1, got {p!r}")
        self.p = p
        self.shared = shared

    def forward(self, x: Tensor) -> Tensor:
        """`x` with the mask of this solve applied."""
        if not self.training or self.p == 0:
            return x
        return x * _mask(self, x)

    def extra_repr(self) -> str:
        return f"p={self.p}, shared={self.shared}"


def _draw_mask(dropout: VariationalDropout, x: Tensor) -> Tensor:
    """The mask of the running solve, or a new one outside of a solve."""
    shape = list(x.shape)
    for dimension in dropout.shared:
        shape[dimension] = 1

    def draw() -> Tensor:
        return torch.empty(shape, dtype=x.dtype, device=x.device).bernoulli_(1 - dropout.p) / (1 - dropout.p)

    return once_a_solve(dropout, torch.Size(shape), draw)


# Not compiled, since a graph would keep the mask of the first solve. Unlike `torch.compiler.disable`, this does not
# import the compiler, which takes as long as importing torch.
_mask = cast(Callable[[VariationalDropout, Tensor], Tensor], _disable_dynamo(_draw_mask))
