"""Heads of classification and segmentation, which map the branches at equilibrium to logits."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deq_vision.config import Architecture, Classification, Segmentation
from deq_vision.models.cell import State
from deq_vision.models.stem import ConvNorm

EXPANSION = 4
"""Ratio of a bottleneck's output channels to its inner channels."""


class Classifier(nn.Module):
    """Maps the branches to logits (B, classes)."""

    def __init__(self, size: Architecture, head: Classification) -> None:
        super().__init__()
        momentum = size.momentum
        self.branches = nn.ModuleList(
            Bottleneck(width, inner, momentum) for width, inner in zip(size.channels, head.channels, strict=True)
        )
        widths = [EXPANSION * inner for inner in head.channels]
        self.down = nn.ModuleList(
            ConvNorm(fine, coarse, 3, momentum=momentum, stride=2, bias=True) for fine, coarse in pairwise(widths)
        )
        self.final = ConvNorm(widths[-1], head.final, 1, momentum=momentum, bias=True)
        self.linear = nn.Linear(head.final, head.classes)

    def forward(self, state: State) -> Tensor:
        first, *others = (branch(z) for branch, z in zip(self.branches, state, strict=True))
        for down, coarser in zip(self.down, others, strict=True):
            first = coarser + down(first)
        return self.linear(self.final(first).mean((2, 3)))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with a shortcut; only the shortcut's norm has gains and offsets."""

    def __init__(self, inputs: int, inner: int, momentum: float) -> None:
        super().__init__()
        outputs = EXPANSION * inner
        self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(inner, momentum=momentum, affine=False)
        self.conv2 = nn.Conv2d(inner, inner, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(inner, momentum=momentum, affine=False)
        self.conv3 = nn.Conv2d(inner, outputs, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(outputs, momentum=momentum, affine=False)
        self.shortcut = nn.Identity() if inputs == outputs else Projection(inputs, outputs, momentum)

    def forward(self, z: Tensor) -> Tensor:
        x = torch.relu(self.norm1(self.conv1(z)))
        x = torch.relu(self.norm2(self.conv2(x)))
        return torch.relu(self.norm3(self.conv3(x)) + self.shortcut(z))


class Projection(nn.Module):
    """1x1 convolution and batch normalisation."""

    def __init__(self, inputs: int, outputs: int, momentum: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs, momentum=momentum)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class Segmenter(nn.Module):
    """Maps the branches to logits (B, classes, h, w) on the grid of branch 0."""

    def __init__(self, size: Architecture, head: Segmentation) -> None:
        super().__init__()
        width = sum(size.channels)
        self.mix = ConvNorm(width, width, 1, momentum=size.momentum, bias=True)
        self.classify = nn.Conv2d(width, head.classes, 1)

    def forward(self, state: State) -> Tensor:
        grid = state[0].shape[2:]
        enlarged = [F.interpolate(z, size=grid, mode="bilinear", align_corners=True) for z in state[1:]]
        return self.classify(self.mix(torch.cat([state[0], *enlarged], dim=1)))
