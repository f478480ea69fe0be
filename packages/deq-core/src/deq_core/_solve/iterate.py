"""The loop: evaluates f, checks each sample for convergence, and asks the solver for the next state."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .._solvers import Solver
from .._solvers.scaled import scaled_to
from .convergence import Convergence
from .map import Map
from .modes import in_place, in_transform, may_look
from .norms import NORMS
from .outcome import Outcome
from .parts import at_steps
from .stop import Stop, StopByPart
from .unaliased import Unaliased


@dataclass(frozen=True)
class Flat:
    """The result of the loop, with flat states.

    Attributes:
        best: (B, n) for each sample the finite f(z) with the lowest residual.
        recorded: `best` after each recorded step.
        residual, steps, outcome, trace, parts: as in `Solution`.
        missed: number of samples that missed the tolerance; None without one, or if the host did not read it.
        last: (z, f(z), solver memory) of the last step.
    """

    best: Tensor
    recorded: list[Tensor]
    residual: Tensor
    steps: Tensor
    outcome: Outcome
    trace: Tensor
    missed: int | None
    last: tuple[Tensor, Tensor, Any]
    parts: Tensor | None = None


@dataclass(frozen=True, eq=False)  # hashed by identity: torch 2.6 compiles with its hash before its fields are set
class Solve:
    """A solve to be run, with its options.

    Attributes:
        solver, stop, record: as in `fixed_point`.
        loop: function with the arguments and result of `iterate`; None stands for `iterate`.
    """

    solver: Solver
    stop: Stop
    record: tuple[int, ...] = ()
    loop: Callable[..., Flat] | None = None

    def __call__(self, f: Map, z0: Tensor) -> Flat:
        """Runs the loop from z0, (B, n)."""
        with f.block():
            return (self.loop or iterate)(f, z0, self.solver, self.stop, self.record)


def iterate(f: Callable[[Tensor], Tensor], z: Tensor, solver: Solver, stop: Stop, record: Sequence[int] = ()) -> Flat:
    """Iterates `solver` on z = f(z), z (B, n), until `stop` is met.

    A sample that has converged, or whose residual is no longer finite, is not changed any more, so its result does not
    depend on the rest of the batch. With a tolerance there is one host synchronisation a step; without, there is none.
    """
    eager = not torch.compiler.is_compiling()
    transformed = eager and in_transform()
    look = eager and (stop.tol is not None or (z.device.type == "cpu" and not transformed))
    convergence = Convergence(z, stop.tol, look=look)
    memory: Any = None
    scratch: _Scratch | None = None
    fz = best = z
    recorded: list[Tensor] = []
    parts: list[Tensor] = []
    if eager:
        f = Unaliased(f)
    for step in range(1, stop.max_steps + 1):
        fz = f(z)
        if step == 1:
            if transformed:  # the solver's memory is made like z, and under vmap must be batched as f(z) is
                z = z + torch.zeros_like(fz)
            memory = solver.init(z, stop.max_steps)
            solver = scaled_to(z, fz, solver, look=may_look(z, waits=stop.tol is not None))
            scratch = _Scratch(solver, z, stop) if eager and not transformed else None
        room = None if scratch is None else scratch(memory)
        if isinstance(stop, StopByPart):
            parts.append(stop.part_residuals(z, fz, room))
            residual = stop.worst(parts[-1])
        else:
            residual = stop.residual(z, fz, room)
        improved, active = convergence.judge(residual)
        if improved == len(z):
            best = fz
        elif improved != 0:
            best = torch.where(convergence.improved[:, None], fz, best)
        if step in record:
            recorded.append(best)
        if step == stop.max_steps or (active == 0 and stop.tol is not None):
            break
        seen = fz
        if torch.is_grad_enabled() and active != len(z):
            # 0 times a value that is not finite is NaN in a backward pass: hide f(z) of ended samples from the solver.
            seen = torch.where(convergence.active[:, None], fz, z)
        proposal, memory = solver.step(z, seen, memory)
        if active == len(z) or (active is None and not torch.is_grad_enabled()):
            z = proposal
        else:
            z = torch.where(convergence.active[:, None], proposal, z)
    recorded += [best] * (len(record) - len(recorded))
    steps = convergence.steps()
    return Flat(
        best,
        recorded,
        residual=convergence.lowest,
        steps=steps,
        outcome=convergence.outcome(),
        trace=torch.stack(convergence.trace),
        missed=convergence.missed,
        last=(z, fz, memory),
        parts=at_steps(parts, steps) if parts else None,
    )


class _Scratch:
    """The buffer for f(z) - z: a row of the solver's memory if the solver keeps the residual, else one of its own.

    Without sharing, `Anderson` takes a tenth longer, f excluded, for states of a million floats.
    """

    def __init__(self, solver: Solver, z: Tensor, stop: Stop) -> None:
        # A user's norm might write into its argument.
        shares = in_place() and all(norm in NORMS for norm in stop.norms)
        self._row = getattr(solver, "residual_row", None) if shares else None
        self._z = z
        self._beside: Tensor | None = None

    def __call__(self, memory: Any) -> Tensor:
        row = None if self._row is None else self._row(memory)
        if row is not None:
            return row
        if self._beside is None:
            self._beside = torch.empty_like(self._z)
        return self._beside
