"""A training that ends early, as if it had been killed."""

from collections.abc import Mapping
from pathlib import Path

from deq_core.experiment.tracking.run import Log


class Interrupted(Exception):
    """The end of such a training."""


class Interrupt(Log):
    """A log that ends the training at one step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def __call__(self, values: Mapping[str, float], step: int = 0) -> None:
        if step == self.step:
            raise Interrupted

    def flush(self) -> None:
        pass

    def artifact(self, path: Path) -> None:
        pass

    def tag(self, key: str, value: str) -> None:
        pass
