"""Progress of long commands on stderr: a bar on a terminal, otherwise an occasional line."""

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from tqdm import tqdm


class Progress:
    """Reports the progress of a loop.

    Args:
        steps: total number of steps, None if unknown.
        done: number of steps done before.
        unit: word for a step, such as "frame".
        title: title of the bar.
        seconds: interval between lines.
    """

    def __init__(
        self,
        steps: int | None,
        *,
        done: int = 0,
        unit: str = "step",
        title: str | None = None,
        seconds: float = 30.0,
    ):
        self.steps, self.done, self.unit, self.seconds = steps, done, unit, seconds
        self.bar = None
        if sys.stderr.isatty():
            self.bar = tqdm(total=steps, initial=done, desc=title, unit=unit, dynamic_ncols=True)
        self.began = self.said = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.bar is not None:
            self.bar.close()

    def update(self, step: int, values: Mapping[str, float]) -> None:
        """Reports that `step` steps are done; `values` belong to the last one."""
        if self.bar is not None:
            self.bar.set_postfix(_shown(values), refresh=False)
            self.bar.update(step - self.bar.n)
        elif step == self.steps or time.monotonic() - self.said >= self.seconds:
            self.said = time.monotonic()
            shown = ", ".join(f"{name} {value}" for name, value in _shown(values).items())
            print(f"{self._line(step)}{': ' if shown else ''}{shown}", file=sys.stderr, flush=True)

    def _line(self, step: int) -> str:
        """Number of steps done, speed, and estimated time left."""
        rate = (step - self.done) / max(time.monotonic() - self.began, 1e-9)
        known = self.steps is not None
        parts = [f"{step} of {self.steps} {self.unit}s" if known else f"{step} {self.unit}s", _speed(rate)]
        if self.steps is not None and self.steps > step and rate > 0:
            parts.append(f"{_duration((self.steps - step) / rate)} left")
        return ", ".join(parts)


def _speed(rate: float) -> str:
    """Steps per second, or seconds per step if slower than one per second."""
    return f"{rate:.3g} a second" if rate >= 1 or rate == 0 else f"{1 / rate:.3g} seconds each"


def _duration(seconds: float) -> str:
    """Duration in seconds if below two minutes, in minutes if below two hours, otherwise in hours."""
    for size, name, most in ((1, "seconds", 120), (60, "minutes", 7200)):
        if seconds < most:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds / 3600:.1f} hours"


def _shown(values: Mapping[str, float]) -> dict[str, str]:
    return {name: f"{value:.4g}" for name, value in values.items()}
