"""The interface of adjoints."""

from typing import Protocol, runtime_checkable

from torch import Tensor

from .._solve.iterate import Flat, Solve
from .._solve.map import Map


@runtime_checkable
class Adjoint(Protocol):
    """How gradients reach the tensors that f closes over; called only while autograd records.

    An adjoint that is also a `Solver` solves by its own iteration, and `fixed_point` takes no other solver with it.
    """

    def __call__(self, f: Map, z0: Tensor, solve: Solve) -> tuple[Tensor, list[Tensor], Flat]:
        """The solution and the recorded states, both with gradients, and the result of `solve(f, z0)`.

        Args:
            f: the map on (B, n) states; call it inside `f.block()`, with one block for each autograd mode.
            z0: initial state, (B, n).
            solve: the solve with its options; calling it runs the loop.
        """
        ...
