"""When a solve ends."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ._norms import two_norm

Norm = Callable[[Tensor], Tensor]

# Keeps 0 / 0 at 0 without touching a small gradient's relative residual, and is a normal float32.
_SMALLEST_LENGTH = 1e-30


@dataclass(frozen=True)
class Stop:
    """When a solve ends: after `max_steps` evaluations of f, or once every sample is within `tol`.

    Attributes:
        max_steps: evaluations of f the solver may use.
        tol: the residual below which a sample has converged; from then on it is left alone.
            `None` runs exactly `max_steps` evaluations, never waits for the device, and compiles.
        relative: judge |f(z) - z| / |f(z)| rather than |f(z) - z|.
        norm: (B, n) → (B,), applied to each sample's whole state: `two_norm`, `rms_norm`, `max_norm` or your own.
    """

    max_steps: int = 40
    tol: float | None = 1e-4
    relative: bool = True
    norm: Norm = two_norm

    def __post_init__(self) -> None:
        if isinstance(self.max_steps, bool) or not isinstance(self.max_steps, int) or self.max_steps < 1:
            raise ValueError(f"max_steps must be a whole number of evaluations, at least 1, got {self.max_steps!r}")
        if self.tol is not None and not self.tol >= 0:
            raise ValueError(f"tol must be None or at least 0, got {self.tol!r}")
        if not callable(self.norm):
            raise TypeError(f"norm must map (B, n) to (B,), such as two_norm, got {self.norm!r}")

    def residual(self, z: Tensor, fz: Tensor, scratch: Tensor | None = None) -> Tensor:
        """Residual of every sample, (B,).

        Args:
            z, fz: a state and its image, (B, n).
            scratch: (B, n) to write the difference into, which spares the allocation of a large one.
        """
        if torch.is_grad_enabled():
            # As a decorator it would hide this method from a compiler that builds a Stop itself.
            with torch.no_grad():
                return self.residual(z, fz, scratch)
        z, fz = z.detach(), fz.detach()
        gap = self.norm(fz - z if scratch is None else torch.sub(fz, z, out=scratch))
        return gap / self.norm(fz).clamp_min(_SMALLEST_LENGTH) if self.relative else gap
