"""Errors and warnings for samples that miss the tolerance."""

import os
import sys
import warnings
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from .outcome import Outcome
from .stop import Stop

OnFailure = Literal["ignore", "warn", "raise"]
_CHOICES = get_args(OnFailure)  # here, since torch 2.6 cannot compile get_args

# A warning points at the innermost frame outside of these folders.
_LIBRARIES = tuple(os.path.dirname(path) + os.sep for path in (os.path.dirname(__file__), torch.__file__))


class ConvergenceError(RuntimeError):
    """Samples of a solve with `on_failure="raise"` missed the tolerance, or were not finite if there is none."""


class ConvergenceWarning(RuntimeWarning):
    """Samples of a solve with `on_failure="warn"`, the default, missed the tolerance."""


def check_on_failure(on_failure: Any) -> None:
    if on_failure not in _CHOICES:
        raise ValueError(f"on_failure must be one of {', '.join(_CHOICES)}, got {on_failure!r}")


def report(
    residual: Tensor,
    outcome: Outcome,
    missed: int | None,
    stop: Stop,
    on_failure: OnFailure,
    *,
    who: str,
    advice: str,
    margin: float = 1.0,
) -> None:
    """Raises or warns if samples missed the tolerance of `stop`.

    Without a tolerance "warn" is silent, and "raise" is for samples that are not finite. The host waits for the device
    only if `missed` does not say that all samples converged.

    Args:
        residual, outcome: those of the samples, (B,).
        missed: number of samples that missed the tolerance, if the host knows it.
        stop, on_failure: as in `fixed_point`.
        who: what the message calls the samples.
        advice: what to do, in a sentence.
        margin: multiple of the tolerance up to which "warn" is silent.
    """
    if on_failure == "ignore" or missed == 0:
        return
    if on_failure == "warn" and (stop.tol is None or torch.compiler.is_compiling()):
        return
    above = outcome.not_finite if stop.tol is None else outcome.converged.logical_not()
    if on_failure == "warn" and stop.tol is not None and margin > 1:
        above = above & (residual <= margin * stop.tol).logical_not()
    if missed := int(above.sum()):
        goal = "a finite residual" if stop.tol is None else f"a residual of {stop.tol:g}"
        goal = f"{goal}, that of a part over its tolerance," if stop.parts and stop.tol is not None else goal
        ends = ", ".join(f"{count} {word}" for word, count in Outcome(outcome.code[above]).counts().items())
        announce(
            f"{missed} of {len(above)} {who} did not reach {goal} in {stop.max_steps} steps ({ends}; residual up to "
            f"{float(residual[above].max()):.2e}). {advice}",
            on_failure,
        )


def announce(message: str, on_failure: OnFailure) -> None:
    """Raises, or warns at the line outside of this library and torch that called for the solve or its gradient.

    Python shows a warning once for each line and text. The numbers in our texts differ from solve to solve, so an entry
    for the line's last text in its module's registry is moved to the new text.
    """
    if on_failure == "raise":
        raise ConvergenceError(message)
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_LIBRARIES):
        frame = frame.f_back
    line, names = frame.f_lineno, frame.f_globals
    remembered: dict[Any, Any] = names.setdefault("__warningregistry__", {})
    last = remembered.get((ConvergenceWarning, line))
    if remembered.pop((last, ConvergenceWarning, line), None):
        remembered[message, ConvergenceWarning, line] = 1
    module = names.get("__name__", "<unknown>")
    warnings.warn_explicit(message, ConvergenceWarning, frame.f_code.co_filename, line, module, remembered)
    remembered[ConvergenceWarning, line] = message
