"""The phantom gradient, that of a few steps from the solution."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from .._solve.iterate import Flat, Solve
from .._solve.map import Map
from .._solvers.base import check_damping
from .autograd import refuse_forward_mode


@dataclass(frozen=True)
class Phantom:
    """The gradient of a few damped steps from the solution, which also move the value (Geng et al., NeurIPS 2021).

    Inexact: a truncated, damped Neumann series of the implicit gradient, which it approaches with more steps if f
    contracts. One step without damping is the Jacobian-free gradient of Fung et al., AAAI 2022.

    Attributes:
        steps: number of differentiated steps, at least 1, each one evaluation of f; memory grows with them.
        damping: share of the old state that each step keeps, in [0, 1). The released code's tau is 1 - damping.
        record: steps before the last, counted from 1, whose states go to `Solution.trajectory` too, in the order in
            which they are computed.
    """

    steps: int = 1
    damping: float = 0.0
    record: tuple[int, ...] = ()
    kind: Literal["phantom"] = field(default="phantom", repr=False, kw_only=True)

    def __post_init__(self) -> None:
        if isinstance(self.steps, bool) or not isinstance(self.steps, int) or self.steps < 1:
            raise ValueError(f"steps must be a whole number, at least 1, got {self.steps!r}")
        check_damping(self.damping)
        ordered = (0, *self.record, self.steps)
        if any(later <= earlier for earlier, later in pairwise(ordered)):
            raise ValueError(f"record must be increasing steps from 1 to {self.steps - 1}, got {self.record}")

    def __call__(self, f: Map, z0: Tensor, solve: Solve) -> tuple[Tensor, list[Tensor], Flat]:
        refuse_forward_mode()
        with torch.no_grad():
            flat = solve(f, z0.detach())
        with f.block():
            *recorded, value = [state for z in (*flat.recorded, flat.best) for state in self._advance(f, z)]
        return value, recorded, flat

    def _advance(self, f: Map, z: Tensor) -> list[Tensor]:
        """The states of the recorded steps and of the last one."""
        states = []
        for step in range(1, self.steps + 1):
            fz = f(z)
            z = torch.lerp(fz, z, self.damping) if self.damping else fz
            if step in self.record or step == self.steps:
                states.append(z)
        return states
