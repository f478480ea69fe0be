"""When a solve ends."""

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

    Attributes:
        max_steps: steps the solver may use, each one evaluation of f.
        tol: the residual below which a sample has converged; from then on it is left alone.
            `None` runs exactly `max_steps` steps, never waits for the device, and compiles.
        relative: judge |f(z) - z| / |f(z)| rather than |f(z) - z|.
        norm: (B, n) → (B,), applied to each sample's whole state: `two_norm`, `rms_norm`, `max_norm` or your own,
            which must give a times the norm for a times the state: it is shown a multiple where squares of the state
            would under- or overflow.
        parts: what is asked of each part of the state, a leaf of its tree, in the order of the leaves; () judges the
            state as a whole. With parts, the residual is the largest of the parts' residuals over their tolerances, so
            it is within at 1 and `tol` is 1, or None as above; `relative` and `norm` are each part's own. The residuals
            themselves are in `Solution.parts`.
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
        """The norms that are applied: one, or each part's."""
        return tuple(part.norm for part in self.parts) or (self.norm,)

    def laid_out(self, sizes: Sequence[int], names: Sequence[str] | None = None) -> "Stop":
        """This stop for flat states whose parts have so many columns; itself where it judges them as a whole.

        Raises:
            ValueError: there is not one of its parts for each of the state's; the message says their `names`.
        """
        if not self.parts:
            return self
        check_parts(self.parts, sizes, names)
        return StopByPart(self.max_steps, self.tol, parts=self.parts, sizes=tuple(sizes))

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
        if self.parts:
            raise ValueError("a Stop by parts must know the state's: ask Stop.laid_out(sizes) for its residual")
        z, fz = z.detach(), fz.detach()
        # A solve with a tolerance waits for its numbers anyway.
        look = may_look(z, waits=self.tol is not None)
        length = of_rows(self.norm, fz - z if scratch is None else torch.sub(fz, z, out=scratch), look=look)
        return length.over(of_rows(self.norm, fz, look=look)) if self.relative else length.bounded()


@dataclass(frozen=True)
class StopByPart(Stop):
    """A `Stop` with parts that knows where they lie in a flat state.

    Attributes:
        sizes: how many columns each part has.
    """

    sizes: tuple[int, ...] = ()

    def residual(self, z: Tensor, fz: Tensor, scratch: Tensor | None = None) -> Tensor:
        """The largest residual of a part over its tolerance, (B,); arguments as in `Stop.residual`."""
        return self.worst(self.part_residuals(z, fz, scratch))

    def part_residuals(self, z: Tensor, fz: Tensor, scratch: Tensor | None = None) -> Tensor:
        """Residual of every part of every sample, (B, parts), each by its own norm; arguments as in `Stop.residual`."""
        if torch.is_grad_enabled():
            with torch.no_grad():  # no decorator, as in `Stop.residual`
                return self.part_residuals(z, fz, scratch)
        z, fz = z.detach(), fz.detach()
        look = may_look(z, waits=self.tol is not None)
        return by_part(self.parts, self.sizes, z, fz, look=look, scratch=scratch)

    def worst(self, residuals: Tensor) -> Tensor:
        """(B,) the largest of residuals (B, parts) over their tolerances."""
        return worst(self.parts, residuals)
