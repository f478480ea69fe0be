"""Errors that every domain raises, apart from their origins and the libraries that these import."""

from collections.abc import Iterable
from pathlib import Path


class UserError(Exception):
    """An error whose message is all that its reader needs: commands print it, and no traceback."""


class CheckpointError(UserError, ValueError):
    """A checkpoint that is missing, damaged, or made for another model; the message names the file."""


class LayoutError(UserError, ValueError):
    """A data set on disk is missing, incomplete, or not laid out as released."""

    def __init__(self, message: str, missing: Iterable[Path] = ()) -> None:
        super().__init__(message)
        self.missing = tuple(missing)
        """Every missing file or folder, of which the message names the first ones."""


class ResultsError(UserError, ValueError):
    """A table or file of results that is missing or damaged; the message names the file."""


class NonFiniteError(UserError, RuntimeError):
    """A value that is not a number, or is infinite; the message names the first step, frame, pair or token."""


class FileFormatError(UserError, ValueError):
    """A file is truncated, corrupt, or not of the format its name promises."""


def damaged(path: Path, expected: str, got: str) -> FileFormatError:
    """The error for a file that holds something else than expected."""
    return FileFormatError(f"{path}: expected {expected}, got {got}; copy or unpack the file again")


OUT_OF_MEMORY = ("DefaultCPUAllocator", "CUDA out of memory", "Insufficient memory")
"""What torch says where it gets no memory of a CPU and of a GPU, and OpenCV."""


def out_of_memory(error: Exception) -> bool:
    """Whether an error, of whatever library, is that the memory did not suffice."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in OUT_OF_MEMORY)
