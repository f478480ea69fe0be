"""Errors that all domains raise, in a module without further imports."""

from collections.abc import Iterable
from pathlib import Path


class UserError(Exception):
    """An error whose message suffices: commands print it without a traceback."""


class CheckpointError(UserError, ValueError):
    """A checkpoint is missing, damaged, or made for another model; the message names the file."""


class LayoutError(UserError, ValueError):
    """A data set on disk is missing, incomplete, or has another layout than the release."""

    def __init__(self, message: str, missing: Iterable[Path] = ()) -> None:
        super().__init__(message)
        self.missing = tuple(missing)
        """All missing files and folders; the message names the first ones."""


class ResultsError(UserError, ValueError):
    """A table or file of results is missing or damaged; the message names the file."""


class NonFiniteError(UserError, RuntimeError):
    """A value is NaN or infinite; the message names the first step, frame, pair or token."""


class FileFormatError(UserError, ValueError):
    """A file is truncated, corrupt, or has another format than its name says."""


def damaged(path: Path, expected: str, got: str) -> FileFormatError:
    """The error for a file with unexpected content."""
    return FileFormatError(f"{path}: expected {expected}, got {got}; copy or unpack the file again")


OUT_OF_MEMORY = ("DefaultCPUAllocator", "CUDA out of memory", "Insufficient memory")
"""Parts of out-of-memory messages: torch on the CPU, torch on a GPU, OpenCV."""


def out_of_memory(error: Exception) -> bool:
    """Whether an error of any library is about insufficient memory."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY)
