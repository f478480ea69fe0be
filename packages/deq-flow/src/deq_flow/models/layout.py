"""How feature maps lie in memory."""

import torch
from torch import Tensor


def channels_last(x: Tensor) -> Tensor:
    """`x` (B, C, h, w) with the channels of a cell side by side in memory, on a CPU; elsewhere `x` as it is.

    Convolutions, normalisation and correlation windows are computed faster in this order there, and their results keep
    it; values and shape stay. On other devices it was not measured.
    """
    return x.contiguous(memory_format=torch.channels_last) if x.device.type == "cpu" else x


def traced() -> bool:
    """Whether a graph is being recorded, by TorchScript, `torch.compile` or an exporter."""
    return torch.jit.is_tracing() or torch.compiler.is_compiling()  # pyright: ignore[reportPrivateImportUsage]
