"""The Jacobian-free gradient, that of one evaluation at the solution."""

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from .._solve.iterate import Flat, Solve
from .._solve.map import Map
from .autograd import one_step, solve_and_attach


@dataclass(frozen=True)
class JacobianFree:
    """The gradient of one evaluation of f at the solution, with z held constant (Fung et al., AAAI 2022).

    Inexact: it replaces (I - Jᵀ)⁻¹ by the identity. It is an ascent direction if f contracts and is well conditioned
    (theorem 3.1 there). The backward pass costs that of one evaluation. The value is not moved, unlike `Phantom(1)`.
    """

    kind: Literal["jacobian_free"] = field(default="jacobian_free", repr=False, kw_only=True)

    def __call__(self, f: Map, z0: Tensor, solve: Solve) -> tuple[Tensor, list[Tensor], Flat]:
        return solve_and_attach(f, z0, solve, one_step)
