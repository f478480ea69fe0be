"""Scales states so that solvers can square them without under- or overflow."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .._solve.norms import all_within, max_norm
from .base import Solver


@dataclass(frozen=True)
class Scaled:
    """A solver on scaled samples.

    Attributes:
        solver: a solver whose steps scale with the state.
        scale: (B, 1) factors of the samples: powers of two, so that scaling is exact.
    """

    solver: Solver
    scale: Tensor

    def init(self, z: Tensor, max_steps: int) -> Any:
        return self.solver.init(z, max_steps)

    def step(self, z: Tensor, fz: Tensor, state: Any) -> tuple[Tensor, Any]:
        proposal, state = self.solver.step(z * self.scale, fz * self.scale, state)
        return proposal / self.scale, state


def scaled_to(z: Tensor, fz: Tensor, solver: Solver, *, look: bool) -> Solver:
    """`solver` on samples scaled by their first step (B, n); the solver itself if no sample needs it."""
    if not getattr(solver, "equivariant", False):
        return solver
    scale = scale_to_ordinary(z, fz, look=look)
    return solver if scale is None else Scaled(solver, scale)


def scale_to_ordinary(*states: Tensor, look: bool) -> Tensor | None:
    """Factors (B, 1) that bring the elements of each sample near 1, and are 1 for ordinary samples.

    Elements are ordinary if their squares and the squares of their rounding errors are normal numbers. Returns None if
    `look` is given and all samples are ordinary.

    Args:
        states: (B, n) each; the largest one counts.
        look: whether the host may read their norms.
    """
    states = tuple(state.detach() for state in states)
    kind = torch.finfo(states[0].dtype)
    least, most = math.sqrt(kind.tiny / kind.eps) / kind.eps, math.sqrt(kind.max) * kind.eps
    if look:
        lengths = torch.stack([torch.linalg.vector_norm(state, dim=1) for state in states])
        if all_within(lengths.amax(0) / states[0].shape[1] ** 0.5, least, most):
            return None
    size = torch.stack([max_norm(state) for state in states]).amax(0)
    highest = -round(math.log2(kind.tiny))
    exponent = (-size.log2()).round().clamp(-highest, highest)
    extraordinary = ((size < least) & (size > 0)) | ((size > most) & (size <= kind.max))
    return torch.where(extraordinary, exponent.exp2(), 1.0)[:, None]
