"""The error of data that are not where they should be, apart from their readers and the libraries these import."""

from collections.abc import Iterable
from pathlib import Path


class LayoutError(ValueError):
    """A data set on disk is missing, incomplete, or not laid out as released."""

    def __init__(self, message: str, missing: Iterable[Path] = ()) -> None:
        super().__init__(message)
        self.missing = tuple(missing)
        """Every missing file or folder, of which the message names the first ones."""
