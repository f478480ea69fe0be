"""A gradient that reuses the inverse Jacobian estimated by the forward solve."""

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
    """The gradient by Broyden's inverse estimate of the forward solve (Ramzi et al., ICLR 2022).

    (I - Jᵀ)⁻¹g is approximated by the transpose of the forward solve's estimate, without a product with the Jacobian.
    Inexact: the estimate is good along the steps that were taken, so the gradient improves with the forward tolerance
    but need not converge to the exact one. The steps of the solve, one state each, are kept until the backward pass.
    First order only.

    Attributes:
        refine: adjoint solve that starts from this estimate, whose gradient is exact; None uses the estimate itself.
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
        # The estimate of a sample is built from the steps before the one that gave its state.
        pullback = partial(self._estimate, memory, (flat.steps - 1).clamp_min(0))
        with f.block():
            return attach(f, flat.best, pullback), [attach(f, z, one_step) for z in flat.recorded], flat

    def _estimate(self, memory: Steps, valid: Tensor, f: Map, z: Tensor, gradient: Tensor) -> Tensor:
        # The estimate is linear, so the gradient may be scaled to keep its products with the steps in range.
        scale = scale_to_ordinary(gradient, look=may_look(gradient))
        if scale is None:
            estimate = transposed_inverse(memory, valid, gradient)
        else:
            estimate = transposed_inverse(memory, valid, gradient * scale) / scale
        if self.refine is None:
            return estimate
        return solve_adjoint(f, z, gradient, estimate, self.refine)


def _used(memory: Steps) -> Steps:
    """The rows in use, copied, so that the buffers for a full solve can be freed."""
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
        memory: steps of the forward solve.
        valid: (B,) number of steps that count for each sample.
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
