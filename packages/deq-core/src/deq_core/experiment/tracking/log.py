"""Where an experiment sends its numbers; code below the command line knows this much of tracking."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol


class Log(Protocol):
    """Where the numbers of an experiment go."""

    def __call__(self, values: Mapping[str, float], step: int = 0) -> None:
        """Records `values` under `step`."""

    def flush(self) -> None:
        """Sends what is held back."""

    def artifact(self, path: Path) -> None:
        """Keeps a copy of a file with the run."""

    def tag(self, key: str, value: str) -> None:
        """Marks the run."""


class _Ignore:
    """Takes everything and keeps nothing."""

    def __call__(self, values: Mapping[str, float], step: int = 0) -> None:
        pass

    def flush(self) -> None:
        pass

    def artifact(self, path: Path) -> None:
        pass

    def tag(self, key: str, value: str) -> None:
        pass


ignore: Log = _Ignore()
"""A log that does nothing, for tests and for the lesser processes of a distributed training."""
