"""The backward pass by the forward pass's inverse Jacobian."""

from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from .._solve.iterate import Flat, Solve
from .._solve.map import Map
from .._solve.modes import may_look
from .._solvers.broyden import Steps
from .._solvers.scaled import scale_to_ordinary
from .autograd import attach, one_step, refuse_forward_mode
from .implicit import Implicit, solve_adjoint


@dataclass(frozen=True)
class SHINE:
    """Shares Broyden's inverse estimate with the backward pass (Ramzi et al., ICLR 2022).

    (I - Jᵀ)⁻¹g is approximated by the transpose of the estimate the forward solve built up, without a product with
    the Jacobian. Inexact: the estimate is good along the steps that were taken, so the gradient improves with the
    forward tolerance but need not converge to the exact one. `refine` starts an implicit solve from it, which is
    exact. The steps that the solve took, one state each, are kept until the backward pass. First order only.

    Attributes:
        refine: how to improve the estimate, if at all.
    """

    refine: Implicit | None = None
    kind: Literal["shine"] = field(default="shine", repr=False, kw_only=True)

    def __call__(self, f: Map, z0: Tensor, solve: Solve) -> tuple[Tensor, list[Tensor], Flat]:
        refuse_forward_mode()
        with torch.no_grad():
            flat = solve(f, z0.detach())
        memory = flat.last[2]
        if not isinstance(memory, Steps):
            raise ValueError("SHINE shares the inverse Jacobian of Broyden's method: solve with solver=Broyden()")
        if len(flat.trace) - 1 > memory.count:
            raise ValueError(
                f"SHINE needs every step of the solve: Broyden(memory={len(memory.steps[0])}) gave up earlier ones "
                f"in {len(flat.trace)}; use Broyden() or a smaller Stop(max_steps)"
            )
        memory = _used(memory)
        # A sample's own steps are those before the one that gave its state.
        pullback = partial(self._estimate, memory, (flat.steps - 1).clamp_min(0))
        with f.block():
            return attach(f, flat.best, pullback), [attach(f, z, one_step) for z in flat.recorded], flat

    def _estimate(self, memory: Steps, valid: Tensor, f: Map, z: Tensor, gradient: Tensor) -> Tensor:
        # A linear map: the gradient may be of a size whose products with the steps have numbers.
        scale = scale_to_ordinary(gradient, look=may_look(gradient))
        if scale is None:
            estimate = transposed_inverse(memory, valid, gradient)
        else:
            estimate = transposed_inverse(memory, valid, gradient * scale) / scale
        if self.refine is None:
            return estimate
        return solve_adjoint(f, z, gradient, estimate, self.refine)


def _used(memory: Steps) -> Steps:
    """The rows in use, without the buffers made for a solve of full length."""
    rows = max(1, memory.count)
    if rows == memory.steps.shape[1]:
        return memory
    gram = memory.gram[:, :rows, :rows].clone()
    return Steps(memory.steps[:, :rows].clone(), gram, memory.first[:, :rows].clone(), memory.count)


def transposed_inverse(memory: Steps, valid: Tensor, gradient: Tensor) -> Tensor:
    """The estimate of (I - Jᵀ)⁻¹ applied to `gradient`, (B, n).

    The inverse is the product over j of I + sⱼ₊₁ sⱼᵀ / |sⱼ|² (see `Broyden`); its transpose applies the last factor
    first.

    Args:
        memory: the forward solve's steps.
        valid: (B,) how many of a sample's rows are its own steps.
        gradient: (B, n).
    """
    result = gradient
    first = memory.first.gather(1, (valid - 1).clamp_min(0)[:, None])[:, 0]
    for j in range(memory.count - 2, -1, -1):
        step, later = memory.steps[:, j], memory.steps[:, j + 1]
        kept = (j + 1 < valid) & (j >= first) & (memory.gram[:, j, j] > 0)
        amount = (later * result).sum(1).double() / memory.gram[:, j, j]
        change = step * amount.to(step.dtype)[:, None]
        result = torch.where(kept[:, None], result + change, result)
    return result
