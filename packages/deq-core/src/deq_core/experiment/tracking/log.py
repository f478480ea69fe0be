"""Interface for logging numbers: all that code below the command line knows of tracking."""

from collections.abc import Mapping
from typing import Protocol


class Log(Protocol):
    """Receiver of an experiment's numbers."""

    def __call__(self, values: Mapping[str, float], step: int = 0, /) -> None:
        """Records `values` under `step`."""


def ignore(values: Mapping[str, float], step: int = 0, /) -> None:
    """A log that does nothing, for tests and for all but the first process of a distributed training."""
