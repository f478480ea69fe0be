"""What a solver is."""

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Solver(Protocol):
    """An update rule for z = f(z) on flat (B, n) states: it proposes the next state from what it has seen.

    A solver never calls f and owns no loop. Every sample is treated as if it were alone: no operation may mix rows.
    """

    def init(self, z: Tensor, max_steps: int) -> Any:
        """The memory before the first evaluation; `max_steps` only sizes buffers."""
        ...

    def step(self, z: Tensor, fz: Tensor, state: Any) -> tuple[Tensor, Any]:
        """The state to evaluate next, and the memory that goes with it.

        Neither z nor fz may be changed. The memory may reuse the buffers of `state`, which is not read again.
        """
        ...


def writable(buffer: Tensor) -> Tensor:
    """`buffer` itself, or a copy where autograd may still need the old contents."""
    return buffer.clone() if torch.is_grad_enabled() else buffer


def check_damping(damping: float) -> None:
    if not 0 <= damping < 1:
        raise ValueError(f"damping is the share of the old state that is kept, at least 0 and below 1, got {damping!r}")
