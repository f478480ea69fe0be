"""The gradient of the solver's operations."""

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from .._solve.iterate import Flat, Solve
from .._solve.map import Map


@dataclass(frozen=True)
class Unrolled:
    """The gradient of the solver's operations: exact for what was computed, also with respect to z0.

    Memory grows with the number of steps: by a state a step with plain iteration, and by the solver's history too with
    an accelerated one. 40 steps hold about 40 states, and about 550 with `Anderson()`. Supports double backward and
    `torch.func`.
    """

    kind: Literal["unrolled"] = field(default="unrolled", repr=False, kw_only=True)

    def __call__(self, f: Map, z0: Tensor, solve: Solve) -> tuple[Tensor, list[Tensor], Flat]:
        flat = solve(f, z0)
        return flat.best, flat.recorded, flat
