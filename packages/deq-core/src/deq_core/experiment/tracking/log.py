"""Where an experiment sends its numbers; code below the command line knows this much of tracking."""

from collections.abc import Mapping
from typing import Protocol


class Log(Protocol):
    """Where the numbers of an experiment go."""

    def __call__(self, values: Mapping[str, float], step: int = 0, /) -> None:
        """Records `values` under `step`."""


def ignore(values: Mapping[str, float], step: int = 0, /) -> None:
    """A log that does nothing, for tests and for the lesser processes of a distributed training."""
