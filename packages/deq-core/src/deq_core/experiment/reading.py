"""Turns errors while reading a file into the reader's own error, which names the file.

Also limits the memory that a file may ask for by its length.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

AGAIN = "copy or unpack the file again"
USUAL = 256 << 20
"""Bytes of memory that any file may ask for."""
RATIO = 100
"""Beyond that, a compressed file may ask for this many times its length."""


@contextmanager
def decoding(path: Path, fault: type[Exception], expected: str, remedy: str = AGAIN) -> Iterator[None]:
    """Turns any error in the block into `fault`; for calls of decoders only, which raise anything on damaged bytes.

    Raises:
        fault: the block failed; the message has the path, what was `expected`, and the library's message.
    """
    try:
        yield
    except fault:
        raise
    except Exception as error:
        raise fault(f"{path}: expected {expected}, got {told(error)}; {remedy}") from error


def read_bytes(path: Path, fault: type[Exception], *, absent: str = "no such file") -> bytes:
    """The content of a file; raises as in `opening`."""
    with opening(path, fault, absent=absent):
        return path.read_bytes()


@contextmanager
def opening(path: Path, fault: type[Exception], *, absent: str = "no such file") -> Iterator[None]:
    """Turns errors of opening and reading the file `path` into `fault`.

    Raises:
        fault: the file cannot be read; `absent` is the message for a missing file.
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
    """The content of a UTF-8 text file; raises as in `read_bytes`, and `fault` for other encodings."""
    data = read_bytes(path, fault)
    with decoding(path, fault, expected, remedy):
        return data.decode()


def require_room(path: Path, fault: type[Exception], size: int) -> None:
    """Checks that a file may ask for `size` bytes of memory.

    Raises:
        fault: this is too much for a file of its length.
    """
    length = path.stat().st_size
    if size > max(USUAL, RATIO * length):
        raise fault(f"{path}: expected what a file of {length} bytes may hold, got one that asks for {size}; {AGAIN}")


def told(error: Exception) -> str:
    """An error's message on one line of at most 200 characters."""
    text = " ".join(str(error).split())
    return (text if len(text) <= 200 else text[:197] + "...") or type(error).__name__
