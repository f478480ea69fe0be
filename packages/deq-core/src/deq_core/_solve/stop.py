"""When a solve ends."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .modes import may_look
from .norms import Norm, measured, two_norm


@dataclass(frozen=True)
class Stop:
    """When a solve ends: after `max_steps` evaluations of f, called steps, or once every sample is within `tol`.

    Attributes:
        max_steps: steps the solver may use, each one evaluation of f.
        tol: the residual below which a sample has converged; from then on it is left alone.
            `None` runs exactly `max_steps` steps, never waits for the device, and compiles.
        relative: judge |f(z) - z| / |f(z)| rather than |f(z) - z|.
        norm: (B, n) → (B,), applied to each sample's whole state: `two_norm`, `rms_norm`, `max_norm` or your own,
            which must give a times the norm for a times the state: it is shown a multiple where squares of the state
            would under- or overflow.
    """

    max_steps: int = 40
    tol: float | None = 1e-4
    relative: bool = True
    norm: Norm = two_norm

    def __post_init__(self) -> None:
        if isinstance(self.max_steps, bool) or not isinstance(self.max_steps, int) or self.max_steps < 1:
            raise ValueError(f"max_steps must be a whole number of steps, at least 1, got {self.max_steps!r}")
        if self.tol is not None and not self.tol >= 0:
            raise ValueError(f"tol must be None or at least 0, got {self.tol!r}")
        if not callable(self.norm):
            raise TypeError(f"norm must map (B, n) to (B,), such as two_norm, got {self.norm!r}")

    def residual(self, z: Tensor, fz: Tensor, scratch: Tensor | None = None) -> Tensor:
        """Residual of every sample, (B,), at every scale that the dtype has.

        It is 0 only where the norm of f(z) - z is, and for finite states at most the largest number of its dtype, also
        where f(z) is 0 and z is not.

        Args:
            z, fz: a state and f of it, (B, n).
            scratch: (B, n) to write f(z) - z into, which spares the allocation of a large one.
        """
        if torch.is_grad_enabled():
            # As a decorator it would hide this method from a compiler that builds a Stop itself.
            with torch.no_grad():
                return self.residual(z, fz, scratch)
        z, fz = z.detach(), fz.detach()
        # A solve with a tolerance waits for its numbers anyway.
        look = may_look(z, waits=self.tol is not None)
        length = measured(self.norm, fz - z if scratch is None else torch.sub(fz, z, out=scratch), look=look)
        return length.over(measured(self.norm, fz, look=look)) if self.relative else length.bounded()
