"""Starting a solve from the last one's state."""

import torch
from torch import Tensor

from ._tree import Tree, leaves_of, map_leaves, same_structure


def warm_start(previous: Tree | None, fallback: Tree) -> Tree:
    """`previous`, detached, where it can serve as a start; `fallback` otherwise.

    The whole of `fallback` is used when there is no previous state or a leaf's shape changed (the video's size, the
    batch); a sample of it is used where the previous state is not finite. The result has fallback's dtype and device.

    Raises:
        TypeError: `previous` is built otherwise than `fallback`, which no change of size explains.
    """
    if previous is None:
        return fallback
    if not same_structure(previous, fallback):
        raise TypeError("the previous state and the fallback must be trees of the same structure")
    pairs = list(zip(leaves_of(previous), leaves_of(fallback), strict=True))
    if any(old.shape != new.shape for old, new in pairs):
        return fallback
    finite = torch.stack([old.detach().isfinite().flatten(1).all(1).to(new.device) for old, new in pairs]).all(0)

    def choose(old: Tensor, new: Tensor) -> Tensor:
        usable = finite.reshape(-1, *[1] * (new.dim() - 1))
        return torch.where(usable, old.detach().to(new), new)

    return map_leaves(choose, previous, fallback)
