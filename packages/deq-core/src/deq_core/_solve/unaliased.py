"""Checks that f does not overwrite its argument or its earlier results."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from .modes import in_transform


def unchanged(f: Callable[[Tensor], Tensor], z: Tensor, *, first: bool) -> Tensor:
    """f(z), after checking that f has not changed z.

    Args:
        f: the function.
        z: its argument.
        first: whether this is the first call of f. An inference tensor is checked at the first call only, on a copy.

    Raises:
        ValueError: f has changed z in place.
    """
    if first and z.is_inference():
        with torch.inference_mode(False):
            z = z.clone()  # inference tensors have no version counter
    version = None if z.is_inference() else z._version
    fz = f(z)
    if version is not None and z._version != version:
        raise ValueError(
            "f changed its argument in place (an nn.ReLU(inplace=True) on the state, or `z += ...`): "
            "use the out-of-place operation"
        )
    return fz


class Unaliased:
    """f, whose results later calls do not overwrite.

    If f returns the same buffer every time (`out=`, a CUDA graph), this is noticed at the second call and the results
    are copied. If f fills several buffers in turn, the call that returns the first one again raises.
    """

    def __init__(self, f: Callable[[Tensor], Tensor]) -> None:
        self._f = f
        self._calls = 0
        self._reuses = False
        self._first: tuple[StorageWeakRef, int] | None = None

    def __call__(self, z: Tensor) -> Tensor:
        self._calls += 1
        fz = self._f(z)
        return fz if fz.requires_grad or in_transform() else self._kept(fz)

    def _kept(self, fz: Tensor) -> Tensor:
        """fz, or a copy if f reuses its memory."""
        if self._first is None:
            self._first = StorageWeakRef(fz.untyped_storage()), fz.data_ptr()
            return fz.clone()
        storage, address = self._first
        # If the first storage was freed, its address may have been given to another tensor.
        if not self._reuses and fz.data_ptr() == address and not storage.expired():
            if self._calls > 2:
                raise ValueError(
                    "f overwrote what an earlier call returned: it fills several buffers in turn. "
                    "Return a new tensor every time (`buffer.clone()`)"
                )
            self._reuses = True
        return fz.clone() if self._reuses else fz
