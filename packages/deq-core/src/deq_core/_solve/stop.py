"""Stopping criteria."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .modes import may_look
from .norms import Norm, of_rows, two_norm
from .parts import Part, by_part, check_parts, worst

_TOL = 1e-4
_LARGEST = torch.finfo(torch.float32).max


@dataclass(frozen=True)
class Stop:
    """When a solve ends: after `max_steps` evaluations of f, called steps, or once every sample is within `tol`.

    A sample whose residual is no longer finite is not waited for.

    Attributes:
        max_steps: maximum number of steps, each one evaluation of f; at least 1.
        tol: residual, at least 0, at or below which a sample has converged, and is not changed any more.
            `None` runs exactly `max_steps` steps, never waits for the device, and compiles.
        relative: whether the residual is |f(z) - z| / |f(z)| rather than |f(z) - z|.
        norm: (B, n) → (B,), applied to each sample's whole state: `two_norm`, `rms_norm`, `max_norm` or your own. A
            norm of your own must be homogeneous, |a z| = a |z|: it gets a multiple of the state where squares would
            under- or overflow.
        parts: a tolerance and norm for each part of the state, that is each leaf of its tree, in the order of the
            leaves; () takes the state as a whole. With parts, the residual is the largest ratio of a part's residual to
            its tolerance, so `tol` is 1, or None as above, and `relative` and `norm` are those of each part.
            `Solution.parts` has the residuals of the parts.
    """

    max_steps: int = 40
    tol: float | None = _TOL
    relative: bool = True
    norm: Norm = two_norm
    parts: tuple[Part, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.max_steps, bool) or not isinstance(self.max_steps, int) or self.max_steps < 1:
            raise ValueError(f"max_steps must be a whole number of steps, at least 1, got {self.max_steps!r}")
        if self.tol is not None and not 0 <= self.tol <= _LARGEST:
            raise ValueError(f"tol must be None or at least 0 and finite in float32, got {self.tol!r}")
        if not callable(self.norm):
            raise TypeError(f"norm must map (B, n) to (B,), such as two_norm, got {self.norm!r}")
        if self.parts:
            self._check_parts()

    def _check_parts(self) -> None:
        if not all(isinstance(part, Part) for part in self.parts):
            raise TypeError(f"parts must be Part objects, such as Part(1e-3), got {self.parts!r}")
        if self.tol not in (None, 1.0, _TOL) or not self.relative or self.norm is not two_norm:
            raise ValueError(
                "with parts, tol, relative and norm must be each part's own: leave them out of Stop, "
                f"or say tol=None to run exactly max_steps, got {self}"
            )
        if all(part.tol is None for part in self.parts):
            raise ValueError(f"parts must have a tolerance, one of them at least, got {self.parts}")
        if self.tol == _TOL:
            object.__setattr__(self, "tol", 1.0)

    @property
    def norms(self) -> tuple[Norm, ...]:
        """The norm of the whole state, or those of the parts."""
        return tuple(part.norm for part in self.parts) or (self.norm,)

    def laid_out(self, sizes: Sequence[int], names: Sequence[str] | None = None) -> "Stop":
        """This stop for flat states; with parts, one that knows their columns.

        Args:
            sizes: number of columns of each leaf of the state.
            names: names of the leaves, for the error message.

        Raises:
            ValueError: the number of parts is not the number of leaves.
        """
        if not self.parts:
            return self
        check_parts(self.parts, sizes, names)
        return StopByPart(self.max_steps, self.tol, parts=self.parts, sizes=tuple(sizes))

    def residual(self, z: Tensor, fz: Tensor, scratch: Tensor | None = None) -> Tensor:
        """Residual of each sample, (B,), without under- or overflow.

        It is 0 only where the norm of f(z) - z is 0. For finite states it is finite, also where f(z) is 0 and z is not.

        Args:
            z, fz: a state and f of it, (B, n).
            scratch: (B, n) buffer for f(z) - z, which saves an allocation.
        """
        if torch.is_grad_enabled():
            # Not a decorator, which torch.compile does not see through when it builds a Stop.
            with torch.no_grad():
                return self.residual(z, fz, scratch)
        if self.parts:
            raise ValueError("a Stop by parts must know the state's: ask Stop.laid_out(sizes) for its residual")
        z, fz = z.detach(), fz.detach()
        # A solve with a tolerance waits for the residuals anyway.
        look = may_look(z, waits=self.tol is not None)
        length = of_rows(self.norm, fz - z if scratch is None else torch.sub(fz, z, out=scratch), look=look)
        return length.over(of_rows(self.norm, fz, look=look)) if self.relative else length.bounded()


@dataclass(frozen=True)
class StopByPart(Stop):
    """A `Stop` with parts for flat states.

    Attributes:
        sizes: number of columns of each part.
    """

    sizes: tuple[int, ...] = ()

    def residual(self, z: Tensor, fz: Tensor, scratch: Tensor | None = None) -> Tensor:
        """Largest ratio of a part's residual to its tolerance, (B,); arguments as in `Stop.residual`."""
        return self.worst(self.part_residuals(z, fz, scratch))

    def part_residuals(self, z: Tensor, fz: Tensor, scratch: Tensor | None = None) -> Tensor:
        """Residual of each part by its own norm, (B, parts); arguments as in `Stop.residual`."""
        if torch.is_grad_enabled():
            with torch.no_grad():  # not a decorator, as in `Stop.residual`
                return self.part_residuals(z, fz, scratch)
        z, fz = z.detach(), fz.detach()
        look = may_look(z, waits=self.tol is not None)
        return by_part(self.parts, self.sizes, z, fz, look=look, scratch=scratch)

    def worst(self, residuals: Tensor) -> Tensor:
        """Largest ratio of the residuals (B, parts) to their tolerances, (B,)."""
        return worst(self.parts, residuals)
