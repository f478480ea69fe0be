"""Ways to supervise several states of one solve, beyond those of the core."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

import deq_core as deq


@dataclass(frozen=True)
class SupervisedPhantom:
    """Phantom gradients whose every step is returned, and so supervised; the release's sup_all.

    The steps of each recorded state, then those of the solution, follow one another in `Solution.trajectory`; the last
    is `Solution.value`. steps and damping are those of `deq_core.Phantom`.
    """

    steps: int = 1
    damping: float = 0.0
    kind: Literal["supervised_phantom"] = field(default="supervised_phantom", repr=False, kw_only=True)

    def __call__(self, f: Any, z0: Tensor, solve: Any) -> tuple[Tensor, list[Tensor], Any]:
        with torch.no_grad():
            found = solve(f, z0.detach())
        one = deq.Phantom(steps=1, damping=self.damping)
        states: list[Tensor] = []
        for z in (*found.recorded, found.best):
            for _ in range(self.steps):
                z = _attached(one, f, z, found)[0]
                states.append(z)
        return states[-1], states[:-1], found


@dataclass(frozen=True)
class PerState:
    """Another adjoint for every supervised state of a solve: those recorded, in order, then the solution."""

    adjoints: tuple[deq.Adjoint, ...]

    def __call__(self, f: Any, z0: Tensor, solve: Any) -> tuple[Tensor, list[Tensor], Any]:
        with torch.no_grad():
            found = solve(f, z0.detach())
        states: list[Tensor] = []
        for adjoint, z in zip(self.adjoints, (*found.recorded, found.best), strict=True):
            value, steps, _ = _attached(adjoint, f, z, found)
            states += [*steps, value]
        return states[-1], states[:-1], found


class Noting:
    """Another adjoint, which also keeps the state it is given: what the solver returned, before any step from it."""

    def __init__(self, adjoint: deq.Adjoint) -> None:
        self.adjoint: Any = adjoint
        self.state: Any = None

    def __call__(self, f: Any, z0: Tensor, solve: Any) -> tuple[Tensor, list[Tensor], Any]:
        def noted(*arguments: Any) -> Any:
            found = solve(*arguments)
            self.state = f.ravel.unflatten(found.best)
            return found

        return self.adjoint(f, z0, noted)


def _attached(adjoint: Any, f: Any, z: Tensor, found: Any) -> tuple[Tensor, list[Tensor], Any]:
    """What `adjoint` makes of the state z, by handing it a solve that has ended there."""
    return adjoint(f, z, lambda *_: replace(found, best=z, recorded=[]))
