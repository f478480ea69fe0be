"""Memory layout on a CPU, and inference-only fast paths: operations that compute a layer's values in less time.

A fast path gives the layer's numbers up to rounding, and runs only where `inference_only` says so. Each is here because
`benchmarks.flow.inference_time` shows it.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


def channels_last(x: Tensor) -> Tensor:
    """`x` (B, C, h, w) with the channels of a cell side by side in memory, on a CPU; elsewhere `x` as it is.

    Convolutions, normalisation and correlation windows are computed faster in this order there, and their results keep
    it; values and shape stay. On other devices it was not measured.
    """
    return x.contiguous(memory_format=torch.channels_last) if x.device.type == "cpu" else x


def inference_only(x: Tensor) -> bool:
    """Whether fast paths may run on `x`: on a CPU, without autograd, autocast, compiler and exporter."""
    if x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64):
        return False
    return not (torch.is_grad_enabled() or torch.is_autocast_enabled("cpu") or torch.compiler.is_compiling())


def tanh_(x: Tensor) -> Tensor:
    """tanh in the memory of x; as a fast path 2 sigmoid(2 x) - 1, a quarter of PyTorch's time, off by up to 2e-7."""
    return x.mul_(2).sigmoid_().mul_(2).sub_(1) if inference_only(x) else x.tanh_()


def joined(shortcut: Tensor, y: Tensor) -> Tensor:
    """relu(shortcut + y), the end of a residual block; as a fast path in the memory of y."""
    return (y.add_(shortcut) if inference_only(y) else shortcut + y).relu_()


class FlowConv(nn.Conv2d):
    """A convolution of stride 1 to a flow (B, 2, h, w); as a fast path one product of all taps, added up by cell.

    For so few outputs the convolution itself computes eight and drops the rest.
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
    """Instance normalisation; as a fast path that of a single sample is batch normalisation by the batch's statistics.

    PyTorch computes that one channels last, where its instance normalisation turns the map around.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not inference_only(input) or input.shape[0] > 1:
            return super().forward(input)
        return F.batch_norm(input, None, None, training=True, eps=self.eps)
