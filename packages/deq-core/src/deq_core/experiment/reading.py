"""What goes wrong while a file is read, as the reader's own error, which names the file: in one place for all readers.

No file may ask for memory that its own length does not promise.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

AGAIN = "copy or unpack the file again"
USUAL = 256 << 20
"""Bytes that any file may ask for."""
RATIO = 100
"""Beyond those: how many times as large as itself a compressed file may be."""


@contextmanager
def decoding(path: Path, fault: type[Exception], expected: str, remedy: str = AGAIN) -> Iterator[None]:
    """For the call of a library that decodes bytes, and for nothing else: on damaged ones it raises nearly anything.

    Raises:
        fault: with the path, what was `expected`, and what the library said.
    """
    try:
        yield
    except fault:
        raise
    except Exception as error:
        raise fault(f"{path}: expected {expected}, got {told(error)}; {remedy}") from error


def read_bytes(path: Path, fault: type[Exception], *, absent: str = "no such file") -> bytes:
    """The content of a file; raises as `opening`."""
    with opening(path, fault, absent=absent):
        return path.read_bytes()


@contextmanager
def opening(path: Path, fault: type[Exception], *, absent: str = "no such file") -> Iterator[None]:
    """For what opens and reads a file.

    Raises:
        fault: where it cannot be read; `absent` says what it means that it is not there.
    """
    try:
        yield
    except FileNotFoundError:
        raise fault(f"{path}: {absent}") from None
    except IsADirectoryError:
        raise fault(f"{path}: expected a file, got a folder; name a file in it") from None
    except OSError as error:
        raise fault(f"{path}: cannot be read: {error.strerror or error}") from error


def read_text(path: Path, fault: type[Exception], *, expected: str = "UTF-8 text", remedy: str = AGAIN) -> str:
    """The content of a file of UTF-8 text; raises as `read_bytes`, and for other bytes."""
    data = read_bytes(path, fault)
    with decoding(path, fault, expected, remedy):
        return data.decode()


def require_room(path: Path, fault: type[Exception], size: int) -> None:
    """Checks that a file may ask for `size` bytes of memory.

    Raises:
        fault: where that is more than a file of its length comes to.
    """
    length = path.stat().st_size
    if size > max(USUAL, RATIO * length):
        raise fault(f"{path}: expected what a file of {length} bytes may hold, got one that asks for {size}; {AGAIN}")


def told(error: Exception) -> str:
    """What an error says, on one line of readable length."""
    text = " ".join(str(error).split())
    return (text if len(text) <= 200 else text[:197] + "...") or type(error).__name__
