"""z ← f(z), optionally damped."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from .base import check_damping


@dataclass(frozen=True)
class FixedPointIteration:
    """Plain (Picard) or damped (Krasnoselskii–Mann) iteration: z ← damping · z + (1 - damping) · f(z).

    Converges if f contracts, and with damping if f is merely non-expansive; linearly, at the rate of the Jacobian's
    spectral radius. Needs no memory.

    Attributes:
        damping: share of the old state that is kept, in [0, 1). The released code's tau or alpha is 1 - damping.
    """

    damping: float = 0.0
    kind: Literal["fixed_point_iteration"] = field(default="fixed_point_iteration", repr=False, kw_only=True)

    def __post_init__(self) -> None:
        check_damping(self.damping)

    def init(self, z: Tensor, max_steps: int) -> None:
        """No memory."""

    def step(self, z: Tensor, fz: Tensor, state: None) -> tuple[Tensor, None]:
        return (torch.lerp(fz, z, self.damping) if self.damping else fz), None
