"""Krylov solvers for affine maps, such as the adjoint equation of an implicit gradient."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from .base import inner_products, put


@dataclass
class Directions:
    """An iterate and the directions along which its residual has been minimised.

    Attributes:
        directions: (B, memory, n) p.
        products: (B, memory, n) A p, orthonormal.
        iterate, residual: (B, n) z and b - A z; None before the first step.
        count: number of directions so far.
    """

    directions: Tensor
    products: Tensor
    iterate: Tensor | None = None
    residual: Tensor | None = None
    count: int = 0


@dataclass(frozen=True)
class GMRES:
    """Minimal residual over the Krylov space, for an affine f(u) = Jᵀu + g: `Implicit(solver=GMRES())`.

    Written as generalised conjugate residuals (Eisenstat, Elman & Schultz, SIAM J. Numer. Anal. 1983), which have the
    iterates of GMRES. With A = I - Jᵀ, one evaluation of f at z + r, a plain step from the iterate z with residual r,
    yields A r. Does not converge if f is not affine.

    Attributes:
        memory: number of directions that are kept, at least 1, each two states; older ones are dropped (Orthomin).
            `None` keeps all, and converges in about as many steps as the Jacobian has distinct eigenvalues.
    """

    memory: int | None = None
    kind: Literal["gmres"] = field(default="gmres", repr=False, kw_only=True)
    equivariant: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.memory is not None and self.memory < 1:
            raise ValueError(f"memory must be None or at least 1 direction, got {self.memory!r}")

    def init(self, z: Tensor, max_steps: int) -> Directions:
        rows = max(1, max_steps - 2)
        rows = rows if self.memory is None else min(rows, self.memory)
        batch, size = z.shape
        return Directions(z.new_empty(batch, rows, size), z.new_empty(batch, rows, size))

    def step(self, z: Tensor, fz: Tensor, state: Directions) -> tuple[Tensor, Directions]:
        if state.iterate is None or state.residual is None:
            return fz, Directions(state.directions, state.products, z, fz - z)
        rows = state.products.shape[1]
        slot, filled = state.count % rows, min(state.count, rows)
        residual = state.residual
        direction, product = residual, residual - (fz - z)
        if filled:
            # One pass of classical Gram-Schmidt loses orthogonality; two are enough.
            for _ in range(2):
                overlap = inner_products(product, state.products[:, :filled])[:, None]
                product = product - torch.bmm(overlap, state.products[:, :filled])[:, 0]
                direction = direction - torch.bmm(overlap, state.directions[:, :filled])[:, 0]
        length = torch.linalg.vector_norm(product, dim=1, keepdim=True)
        inverse = torch.where(length > 0, 1 / length.clamp_min(1e-30), 0.0)
        direction, product = direction * inverse, product * inverse
        amount = (residual * product).sum(1, keepdim=True)
        iterate, residual = state.iterate + amount * direction, residual - amount * product
        directions, products = put(state.directions, slot, direction), put(state.products, slot, product)
        return iterate + residual, Directions(directions, products, iterate, residual, state.count + 1)


@dataclass(frozen=True)
class ConjugateResidual:
    """`GMRES` with a memory of one direction, four states in all; as good if the Jacobian is symmetric.

    For affine maps only, such as the adjoint equation (Saad, Iterative Methods for Sparse Linear Systems, section
    6.8).
    """

    kind: Literal["conjugate_residual"] = field(default="conjugate_residual", repr=False, kw_only=True)
    equivariant: ClassVar[bool] = True

    def init(self, z: Tensor, max_steps: int) -> Directions:
        return GMRES(memory=1).init(z, max_steps)

    def step(self, z: Tensor, fz: Tensor, state: Directions) -> tuple[Tensor, Directions]:
        return GMRES(memory=1).step(z, fz, state)
