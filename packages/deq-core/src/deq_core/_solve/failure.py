"""What happens when samples end above their tolerance."""

import warnings
from typing import Any, Literal, get_args

from torch import Tensor

from .stop import Stop

OnFailure = Literal["ignore", "warn", "raise"]
_CHOICES = get_args(OnFailure)  # the compiler of torch 2.6 does not call get_args


class ConvergenceError(RuntimeError):
    """A solve with `on_failure="raise"` left samples above its tolerance."""


def check_on_failure(on_failure: Any) -> None:
    if on_failure not in _CHOICES:
        raise ValueError(f"on_failure must be one of {', '.join(_CHOICES)}, got {on_failure!r}")


def failed(residual: Tensor, converged: Tensor, stop: Stop) -> Tensor:
    """(B,) samples above the tolerance, or non-finite where there is none."""
    return residual.isfinite().logical_not() if stop.tol is None else converged.logical_not()


def goal(stop: Stop) -> str:
    """What `stop` asks for, in words."""
    return "a finite residual" if stop.tol is None else f"a residual of {stop.tol:g}"


def announce(message: str, on_failure: OnFailure) -> None:
    """Raises or warns, at the caller of the function that reports to its own."""
    if on_failure == "raise":
        raise ConvergenceError(message)
    warnings.warn(message, stacklevel=4)
