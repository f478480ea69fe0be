"""Networks without memory: their parameters have shapes and nothing else."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

MORE = 8
"""Tensors that may be made for each that a checkpoint has: initial values, and those of parts that others replace."""


@contextmanager
def shapes_only(count: int) -> Iterator[None]:
    """Tensors made in the block, on the device "meta", have no content, and what would set it does nothing.

    So that no random numbers are drawn, nor is a compiler loaded, which the device has for some functions.

    Raises:
        ValueError: many more than `count` of them are made.
    """
    with torch.device("meta"), _Unset(MORE * (count + 64)):
        yield


class _Unset(TorchFunctionMode):
    """Skips what sets a tensor's values; counts the tensors that are made."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.left = most

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        given = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        first = args[0] if args else given.get("tensor")
        if name.endswith("_") and not name.endswith("__") and name != "requires_grad_" and isinstance(first, Tensor):
            return first  # it would be changed in place
        if name == "mul" and isinstance(first, Tensor) and isinstance(args[1], int | float):
            return torch.empty(first.shape)
        if name == "norm_except_dim" and isinstance(first, Tensor):
            return torch.empty([size if dim == args[2] else 1 for dim, size in enumerate(first.shape)])
        if func is torch.empty:
            self.left -= 1
            if self.left < 0:
                raise ValueError("many more tensors than the checkpoint has")
        return func(*args, **given) if func is not torch.randn else torch.empty(*args, **given)
