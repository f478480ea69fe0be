"""How far a training is, on stderr: a bar on a terminal, elsewhere a line now and then."""

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self, TextIO

from tqdm import tqdm


class Progress:
    """Reports steps done out of `steps`, of which `done` were done before."""

    def __init__(self, steps: int, *, done: int = 0, seconds: float = 30.0, stream: TextIO | None = None):
        self.steps, self.seconds = steps, seconds
        self.stream = sys.stderr if stream is None else stream
        terminal = self.stream.isatty()
        self.bar = tqdm(total=steps, initial=done, file=self.stream, dynamic_ncols=True) if terminal else None
        self.said = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.bar is not None:
            self.bar.close()

    def update(self, step: int, values: Mapping[str, float]) -> None:
        """`step` steps are done, the last with these values."""
        if self.bar is not None:
            self.bar.set_postfix(_shown(values), refresh=False)
            self.bar.update(step - self.bar.n)
        elif step == self.steps or time.monotonic() - self.said >= self.seconds:
            self.said = time.monotonic()
            shown = ", ".join(f"{name} {value}" for name, value in _shown(values).items())
            print(f"step {step} of {self.steps}: {shown}", file=self.stream, flush=True)


def _shown(values: Mapping[str, float]) -> dict[str, str]:
    return {name: f"{value:.4g}" for name, value in values.items()}
