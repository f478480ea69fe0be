"""Builds networks on the meta device: parameters have shapes but no memory."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

MORE = 8
"""Tensors that may be made for each one in the checkpoint, including initial values and parts replaced later."""


@contextmanager
def shapes_only(count: int) -> Iterator[None]:
    """Tensors made in the block are on the meta device, and operations that would set their values are skipped.

    So no random numbers are drawn, and the compiler that some meta functions need is not loaded.

    Raises:
        ValueError: many more than `count` tensors are made.
    """
    with torch.device("meta"), _Unset(MORE * (count + 64)):
        yield


class _Unset(TorchFunctionMode):
    """Skips operations that set values; limits the number of tensors made."""

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
            return first  # in-place operation
        if name == "mul" and isinstance(first, Tensor) and isinstance(args[1], int | float):
            return torch.empty(first.shape)
        if name == "norm_except_dim" and isinstance(first, Tensor):
            return torch.empty([size if dim == args[2] else 1 for dim, size in enumerate(first.shape)])
        if func is torch.empty:
            self.left -= 1
            if self.left < 0:
                raise ValueError("many more tensors than the checkpoint has")
        return func(*args, **given) if func is not torch.randn else torch.empty(*args, **given)
