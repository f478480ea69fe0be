"""What torch's current mode (autograd, compilation, `torch.func`) allows."""

import torch
from torch import Tensor


def in_place() -> bool:
    """Whether buffers may be overwritten: not if autograd may need the old contents, nor in a traced graph."""
    return not torch.is_grad_enabled() and not torch.compiler.is_compiling() and not in_transform()


def in_transform() -> bool:
    """Whether a `torch.func` transform is active; its tensors cannot be written into others."""
    return torch._C._are_functorch_transforms_active()


def may_look(x: Tensor, *, waits: bool = False) -> bool:
    """Whether the host may read values of x: no graph is being traced, and it would not have to wait for a device.

    Args:
        x: any tensor of the computation.
        waits: whether the host waits for the device anyway.
    """
    if torch.compiler.is_compiling() or in_transform() or torch._C._get_tracing_state() is not None:
        return False
    return waits or x.device.type == "cpu"
