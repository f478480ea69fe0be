"""The stem, which maps an image to the injection of f; evaluated once per image, outside the solve."""

from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn

from deq_vision.config import Architecture

Injection = Tensor | tuple[Tensor, ...]
"""(B, C0, h, w) for branch 0, or a tuple of one tensor a branch."""


class ConvNorm(nn.Module):
    """Convolution that keeps height and width (divided by `stride`), batch normalisation, ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, *, momentum: float, stride: int = 1, bias: bool = False
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=bias)
        self.norm = nn.BatchNorm2d(outputs, momentum=momentum)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.norm(self.conv(x)))


class Stem(nn.Module):
    """Maps images (B, 3, H, W) to the injection at 1/2^halvings of their size."""

    def __init__(self, size: Architecture) -> None:
        super().__init__()
        width, momentum = size.channels[0], size.momentum
        self.layers = nn.ModuleList(
            ConvNorm(3 if i == 0 else width, width, 3, momentum=momentum, stride=2 if i < size.halvings else 1)
            for i in range(max(2, size.halvings))
        )
        projected = size.halvings > 0 or len(size.channels) > 2
        self.projection = ConvNorm(width, width, 1, momentum=momentum) if projected else None
        pairs = pairwise(size.channels) if size.injection == "all" else ()
        self.branches = nn.ModuleList(ConvNorm(a, b, 3, momentum=momentum, stride=2) for a, b in pairs)
        self.everywhere = size.injection == "all"
        self.gain = size.injection_gain

    def forward(self, images: Tensor) -> Injection:
        x = images
        for layer in self.layers:
            x = layer(x)
        x = x if self.projection is None else self.projection(x)
        if not self.everywhere:
            return x if self.gain == 1 else self.gain * x
        injections = [x]
        for branch in self.branches:
            injections.append(cast(ConvNorm, branch)(injections[-1]))
        return tuple(self.gain * injection for injection in injections)
