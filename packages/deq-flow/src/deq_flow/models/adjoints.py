"""Adjoints that supervise several states of one solve, in addition to those of deq_core."""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

import deq_core as deq


@dataclass(frozen=True)
class SupervisedPhantom:
    """Phantom gradients that return, and so supervise, every phantom step; the release's sup_all.

    `Solution.trajectory` has the steps of each recorded state, then those of the solution; the last one is
    `Solution.value`. steps and damping are those of `deq_core.Phantom`.
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
    """An adjoint for each supervised state of a solve: the recorded states in order, then the solution."""

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
    """Wraps an adjoint and keeps the state that the solver returned, before any phantom step."""

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
    """The result of `adjoint` at the state z: it gets a solve that returns z at once."""
    return adjoint(f, z, lambda *_: replace(found, best=z, recorded=[]))
