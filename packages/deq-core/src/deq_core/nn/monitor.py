"""Convergence of solves, as numbers for a log."""

from collections.abc import Callable, Mapping
from math import inf, isfinite
from statistics import median

from torch import Tensor

from .._solve.solution import Solution


def summarize(solution: Solution) -> dict[str, float]:
    """Convergence of a batch as numbers by name; empty for an empty batch. Waits for the device.

    Names: `residual` (median over the samples), `residual_worst`, `residual_first` (median at the first step, which
    shows the quality of a warm start), `steps` (mean), `converged` (share), `finite` (share), `evaluations`; if the
    stop has parts, also `residual_part0` and so on (medians). A NaN residual counts as infinite.
    """
    if len(solution.residual) == 0:
        return {}
    residual = _numbers(solution.residual)
    parts = [] if solution.parts is None else [median(_numbers(part)) for part in solution.parts.unbind(1)]
    return {
        "residual": median(residual),
        "residual_worst": max(residual),
        "residual_first": median(_numbers(solution.trace[0])),
        "steps": float(solution.steps.double().mean()),
        "converged": float(solution.converged.double().mean()),
        "finite": sum(map(isfinite, residual)) / len(residual),
        "evaluations": float(solution.nfe),
        **{f"residual_part{number}": value for number, value in enumerate(parts)},
    }


def _numbers(residuals: Tensor) -> list[float]:
    return residuals.detach().nan_to_num(nan=inf, posinf=inf).tolist()


class Monitor:
    """Logs the convergence of solves at regular training steps.

        monitor = Monitor(log, every=50, prefix="train/")
        monitor(layer(f, z0), step)

    Args:
        log: called with a mapping of names to numbers, and the training step.
        every: training steps between two logged ones; only these wait for the device.
        prefix: put before each name.
    """

    def __init__(self, log: Callable[[Mapping[str, float], int], object], *, every: int = 1, prefix: str = "") -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1 step, got {every!r}")
        self.log = log
        self.every = every
        self.prefix = prefix

    def __call__(self, solution: Solution, step: int) -> Solution:
        """Logs if `step` is a multiple of `every`, and returns the solution."""
        if step % self.every == 0 and (values := summarize(solution)):
            self.log({f"{self.prefix}{name}": value for name, value in values.items()}, step)
        return solution
