"""Memory format on a CPU, and inference-only fast paths: faster ways to compute a layer's values.

A fast path equals the layer up to rounding, and runs only if `inference_only` is true. The gain of each shows in
`benchmarks.flow.inference_time`.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


def channels_last(x: Tensor) -> Tensor:
    """`x` (B, C, h, w) in channels-last memory format on a CPU; on other devices `x` itself.

    On a CPU, convolutions, normalisation and correlation windows are faster in this format, and their results keep
    it. Other devices were not measured.
    """
    return x.contiguous(memory_format=torch.channels_last) if x.device.type == "cpu" else x


def inference_only(x: Tensor) -> bool:
    """Whether fast paths may run on `x`: on a CPU, without autograd, autocast, compilation or export.

    `x` must be float32 or float64.
    """
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64):
        return False
    return not (torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling())


def tanh_(x: Tensor) -> Tensor:
    """In-place tanh; the fast path is 2 sigmoid(2 x) - 1, in a quarter of the time and with an error of up to 2e-7."""
    return x.mul_(2).sigmoid_().mul_(2).sub_(1) if inference_only(x) else x.tanh_()


def joined(shortcut: Tensor, y: Tensor) -> Tensor:
    """relu(shortcut + y), the end of a residual block; the fast path works in place in y."""
    return (y.add_(shortcut) if inference_only(y) else shortcut + y).relu_()


class FlowConv(nn.Conv2d):
    """A 3x3 convolution to a flow (B, 2, h, w); the fast path is one matrix product for all taps, then a fold.

    PyTorch's convolution computes eight output channels here and drops six.
    """

    def __init__(self, inputs: int) -> None:
        super().__init__(inputs, 2, 3, padding=1)

    def forward(self, input: Tensor) -> Tensor:
        if self.bias is None or not inference_only(input):
            return super().forward(input)
        taps = rearrange(self.weight.flip(2, 3), "xy c height width -> (xy height width) c")
        products = taps @ rearrange(input, "b c h w -> b c (h w)")
        return F.fold(products, input.shape[2:], kernel_size=3, padding=1) + self.bias[:, None, None]


class InstanceNorm(nn.InstanceNorm2d):
    """Instance normalisation; the fast path for a single sample is batch normalisation with the batch's statistics.

    PyTorch's batch normalisation runs in channels-last format, its instance normalisation converts the map first.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not inference_only(input) or input.shape[0] > 1:
            return super().forward(input)
        return F.batch_norm(input, None, None, training=True, eps=self.eps)
