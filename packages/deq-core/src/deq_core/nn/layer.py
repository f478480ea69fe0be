"""`DEQ`, a solve as a module."""

from collections.abc import Callable, Sequence

from torch import nn

from .._adjoints.base import Adjoint
from .._adjoints.implicit import Implicit
from .._solve.failure import OnFailure
from .._solve.fixed_point import check_choices, choose_solver, fixed_point
from .._solve.solution import Solution
from .._solve.stop import Stop
from .._solve.tree import Tree
from .._solvers import Solver

_STOP = Stop()
_ADJOINT = Implicit()


class DEQ(nn.Module):
    """The equilibrium layer of a network: `fixed_point` with its options. It has no weights.

    Args:
        solver, stop, adjoint, on_failure: as in `fixed_point`.
        eval_stop: replaces `stop` in eval mode. Nothing else depends on the mode.
    """

    def __init__(
        self,
        *,
        solver: Solver | None = None,
        stop: Stop = _STOP,
        adjoint: Adjoint = _ADJOINT,
        eval_stop: Stop | None = None,
        on_failure: OnFailure = "warn",
    ) -> None:
        super().__init__()
        solver = choose_solver(solver, adjoint)
        check_choices(solver, stop, adjoint, on_failure)
        if eval_stop is not None:
            check_choices(solver, eval_stop, adjoint, on_failure)
        self.solver = solver
        self.stop = stop
        self.adjoint = adjoint
        self.eval_stop = eval_stop
        self.on_failure: OnFailure = on_failure

    def forward(
        self,
        f: Callable[..., Tree],
        z0: Tree,
        *,
        record: Sequence[int] = (),
        check: Callable[..., Tree] | None = None,
        stop: Stop | None = None,
        adjoint: Adjoint | None = None,
    ) -> Solution:
        """Solves z = f(z) from z0; see `fixed_point`. `stop` and `adjoint` replace those of the layer in this call."""
        if stop is None:
            stop = self.stop if self.training or self.eval_stop is None else self.eval_stop
        return fixed_point(
            f,
            z0,
            solver=self.solver,
            stop=stop,
            adjoint=self.adjoint if adjoint is None else adjoint,
            record=record,
            check=check,
            on_failure=self.on_failure,
        )

    def extra_repr(self) -> str:
        return f"solver={self.solver}, stop={self.stop}, adjoint={self.adjoint}, eval_stop={self.eval_stop}"
