"""Image encoder: a strided stem, three stages of residual blocks, a 1x1 projection (Teed & Deng 2020, 3.1)."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from deq_flow.models.fast_paths import InstanceNorm, channels_last, inference_only, joined

Norm = Literal["instance", "batch", "none"]


class Encoder(nn.Module):
    """Features (B, channels, H / scale, W / scale) of images (B, 3, H, W); sides are rounded up.

    Instance normalisation has neither weights nor running statistics, and so no keys in a state dict.
    `dropout` is the probability that a channel of a sample's features is zeroed in training.
    """

    def __init__(
        self,
        channels: int,
        stages: tuple[int, int, int],
        *,
        norm: Norm,
        block: Literal["residual", "bottleneck"] = "residual",
        blocks: int = 2,
        scale: Literal[4, 8] = 8,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        make = ResidualBlock if block == "residual" else BottleneckBlock

        def stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
            later = [make(outputs, outputs, 1, norm) for _ in range(blocks - 1)]
            return nn.Sequential(make(inputs, outputs, stride, norm), *later)

        first, second, third = stages
        self.conv1 = nn.Conv2d(3, first, 7, stride=2, padding=3)
        self.norm1 = _norm(norm, first)
        self.layer1 = stage(first, first, 1)
        self.layer2 = stage(first, second, 2)
        self.layer3 = stage(second, third, scale // 4)
        self.conv2 = nn.Conv2d(third, channels, 1)
        self.dropout = nn.Dropout2d(dropout)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor, *, recompute: bool = False) -> Tensor:
        """`recompute` keeps only the images, and runs them again one at a time in the backward pass.

        It has no effect while batch normalisation updates its statistics, which a second pass would change. The
        inference-only fast path also takes one image at a time, because more of it fits into a CPU's caches.
        """
        gathers = any(isinstance(module, nn.BatchNorm2d) and module.training for module in self.modules())
        if recompute and torch.is_grad_enabled() and not gathers:
            alone = [checkpoint(self._project, image, use_reentrant=False) for image in images.split(1)]
            return self.dropout(torch.cat(alone))
        if inference_only(images) and not gathers:
            alone = [self._project(channels_last(image)) for image in images.split(1)]
            return self.dropout(torch.cat(alone))
        return self.dropout(self._project(images))

    def _project(self, images: Tensor) -> Tensor:
        features = self.norm1(self.conv1(images)).relu_()
        return self.conv2(self.layer3(self.layer2(self.layer1(features))))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions, each followed by norm and ReLU, added to the input; then ReLU.

    Unlike in He et al. (2016), there is a ReLU after the second norm too, before the sum.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1)
        self.norm1 = _norm(norm, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.norm2 = _norm(norm, outputs)
        self.downsample = _shortcut(inputs, outputs, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(self.conv1(x)).relu_()
        y = self.norm2(self.conv2(y)).relu_()
        return joined(self.downsample(x), y)


class BottleneckBlock(nn.Module):
    """1x1, 3x3 and 1x1 convolutions through a quarter of the channels, each with norm and ReLU; used by RAFT-small."""

    def __init__(self, inputs: int, outputs: int, stride: int, norm: Norm) -> None:
        super().__init__()
        inner = outputs // 4
        self.conv1 = nn.Conv2d(inputs, inner, 1)
        self.norm1 = _norm(norm, inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride=stride, padding=1)
        self.norm2 = _norm(norm, inner)
        self.conv3 = nn.Conv2d(inner, outputs, 1)
        self.norm3 = _norm(norm, outputs)
        self.downsample = _shortcut(inputs, outputs, stride, norm)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(self.conv1(x)).relu_()
        y = self.norm2(self.conv2(y)).relu_()
        y = self.norm3(self.conv3(y)).relu_()
        return joined(self.downsample(x), y)


def _shortcut(inputs: int, outputs: int, stride: int, norm: Norm) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride), _norm(norm, outputs))


def _norm(kind: Norm, channels: int) -> nn.Module:
    makers: dict[str, Callable[[int], nn.Module]] = {
        "instance": InstanceNorm,
        "batch": nn.BatchNorm2d,
        "none": lambda _: nn.Identity(),
    }
    return makers[kind](channels)
