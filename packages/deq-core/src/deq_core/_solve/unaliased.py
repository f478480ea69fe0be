"""f, kept from writing into states that are still in use."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef

from .modes import in_transform


def unchanged(f: Callable[[Tensor], Tensor], z: Tensor, *, first: bool) -> Tensor:
    """f(z), where f may not write into z.

    Args:
        f, z: the function, and its argument.
        first: whether this is the first call of f: what it does to its argument it does every time.

    Raises:
        ValueError: it does.
    """
    if first and z.is_inference():
        with torch.inference_mode(False):
            z = z.clone()  # one that counts its versions
    version = None if z.is_inference() else z._version
    fz = f(z)
    if version is not None and z._version != version:
        raise ValueError(
            "f changed its argument in place (an nn.ReLU(inplace=True) on the state, or `z += ...`): "
            "use the out-of-place operation"
        )
    return fz


class Unaliased:
    """f, whose results stay what they were.

    An f that returns the same buffer every time (`out=`, a CUDA graph) is noticed at its second call and its results
    are copied; one that fills several in turn is refused when the first comes again.
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
        """fz, or a copy of it where f fills its memory again."""
        if self._first is None:
            self._first = StorageWeakRef(fz.untyped_storage()), fz.data_ptr()
            return fz.clone()
        storage, address = self._first
        # Memory that nobody holds any more may be anyone's.
        if not self._reuses and fz.data_ptr() == address and not storage.expired():
            if self._calls > 2:
                raise ValueError(
                    "f overwrote what an earlier call returned: it fills several buffers in turn. "
                    "Return a new tensor every time (`buffer.clone()`)"
                )
            self._reuses = True
        return fz.clone() if self._reuses else fz
