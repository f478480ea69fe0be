"""The implicit gradient by a truncated Neumann series."""

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from .._solve.iterate import Flat, Solve
from .._solve.map import Map
from .autograd import one_step, solve_and_attach, transposed_jacobian


@dataclass(frozen=True)
class Truncated:
    """The Neumann series g + Jᵀg + (Jᵀ)²g + ... of the implicit gradient, truncated after a few terms.

    Inexact: the error is of the order of the spectral radius to the power `terms` if f contracts, and grows with
    `terms` if it does not. Memory is that of `Implicit`, and it is first order only too. The value is not moved.

    Attributes:
        terms: number of terms, at least 1; one is `JacobianFree`. Each further term costs one product with Jᵀ.
    """

    terms: int = 5
    kind: Literal["truncated"] = field(default="truncated", repr=False, kw_only=True)

    def __post_init__(self) -> None:
        if isinstance(self.terms, bool) or not isinstance(self.terms, int) or self.terms < 1:
            raise ValueError(f"terms must be a whole number, at least 1, got {self.terms!r}")

    def __call__(self, f: Map, z0: Tensor, solve: Solve) -> tuple[Tensor, list[Tensor], Flat]:
        return solve_and_attach(f, z0, solve, self._sum if self.terms > 1 else one_step)

    def _sum(self, f: Map, z: Tensor, gradient: Tensor) -> Tensor:
        product, u = transposed_jacobian(f, z), gradient
        if product is not None:
            for _ in range(self.terms - 1):
                u = product(u) + gradient
        return u
