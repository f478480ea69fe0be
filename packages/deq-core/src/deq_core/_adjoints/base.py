"""What an adjoint is."""

from typing import Protocol, runtime_checkable

from torch import Tensor

from .._solve.iterate import Flat, Solve
from .._solve.map import Map


@runtime_checkable
class Adjoint(Protocol):
    """How gradients reach what f closes over; called only while autograd records.

    One that is a `Solver` too solves by its own iteration: `fixed_point` takes no other solver beside it.
    """

    def __call__(self, f: Map, z0: Tensor, solve: Solve) -> tuple[Tensor, list[Tensor], Flat]:
        """The solution and the recorded states, both with gradients, and what `solve(f, z0)` found.

        Args:
            f: the map on (B, n) states; enter `f.block()` round calls of one autograd mode.
            z0: (B, n) where the solve starts.
            solve: runs the loop, and knows the choices made for it.
        """
        ...
