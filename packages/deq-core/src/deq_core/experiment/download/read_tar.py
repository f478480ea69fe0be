"""Reads tar archives strictly: what Python's own reader takes for an early end is damage here."""

import bz2
import io
import itertools
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any, BinaryIO

CHUNK = 1 << 20  # bytes
PADDING = 1 << 24  # bytes of zeros behind an archive, at most: tapes have blocks of up to one mebibyte
DECOMPRESSORS: dict[str, tuple[bytes, Callable[[], Any]]] = {
    "gzip": (b"\x1f\x8b", lambda: zlib.decompressobj(wbits=31)),
    "bzip2": (b"BZh", bz2.BZ2Decompressor),
    "xz": (b"\xfd7zXZ\0", lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=1 << 30)),
}
"""By name, what a compressed stream begins with, and what reads one."""


@dataclass(frozen=True)
class Member:
    """A file or folder in an archive."""

    name: str
    size: int
    data: IO[bytes] | None
    """Its content, to be read before the next member is asked for; None for a folder."""
    fault: str = ""
    """Why it must not be unpacked."""


def kind_of(start: bytes) -> str | None:
    """What a file begins as, by its first 512 bytes: "tar", the name of a compression, or None."""
    try:
        tarfile.TarInfo.frombuf(start, "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError):
        return next((name for name, (magic, _) in DECOMPRESSORS.items() if start.startswith(magic)), None)
    return "tar"


def members(file: BinaryIO, kind: str, take: Callable[[int], None]) -> Iterator[Member]:
    """The members of a tar archive, which is read to its end.

    `tarfile` ends without a word at a header that is damaged, at the end of the file, and at a block of zeros whatever
    follows; here an archive ends in two blocks of zeros, and nothing but zeros follows.

    Args:
        take: told how many bytes the archive without its compression has at least, before they are read.

    Raises:
        ValueError, EOFError, tarfile.TarError, zlib.error, lzma.LZMAError, OSError without a number: it is damaged.
    """
    stream = Stream(iter(lambda: file.read(CHUNK), b"") if kind == "tar" else decompressed(file, kind), take)
    source = tarfile.TarFile(fileobj=stream)
    while (header := source.next()) is not None:
        sort = "is a sparse file" if header.issparse() else "" if header.isfile() else "is a link or device"
        if header.isdir():
            yield Member(header.name, 0, None)
        else:
            yield Member(header.name, header.size, source.extractfile(header) if not sort else io.BytesIO(), sort)
        source.members.clear()  # pyright: ignore[reportAttributeAccessIssue] - or it keeps millions of headers
    if stream.last.strip(b"\0"):
        raise ValueError(f"what should be a header at byte {stream.tell() - len(stream.last)} is none")
    end = stream.tell()
    if stream.read(tarfile.BLOCKSIZE).strip(b"\0") or any(piece.strip(b"\0") for piece in stream.rest()):
        raise ValueError("more follows behind its end")
    if stream.tell() - end > PADDING:
        raise ValueError(f"{stream.tell() - end} zeros follow it, as if it had been written in part")


def decompressed(file: BinaryIO, kind: str) -> Iterator[bytes]:
    """The content of a file of one or more compressed streams, whose checksums are checked; zeros may follow each.

    Python's own files of bzip2 and xz take a damaged second stream for the end.
    """
    data = file.read(CHUNK)
    while data:
        stream = DECOMPRESSORS[kind][1]()
        while not stream.eof:
            if not data and getattr(stream, "needs_input", True) and not (data := file.read(CHUNK)):
                raise EOFError(f"it ends in the midst of its {kind} data")
            yield stream.decompress(data, CHUNK)
            data = getattr(stream, "unconsumed_tail", b"")  # zlib gives back what the others keep
        data = stream.unused_data.lstrip(b"\0")
        while not data and (more := file.read(CHUNK)):
            data = more.lstrip(b"\0")


class Stream(io.BufferedIOBase):
    """Reads pieces of bytes as one file, forwards alone, and gives all that is asked for or raises EOFError."""

    def __init__(self, pieces: Iterator[bytes], take: Callable[[int], None]) -> None:
        self.pieces, self.take = pieces, take
        self.held = bytearray()
        self.position = 0
        self.last = b""
        """What was read last."""

    def tell(self) -> int:
        return self.position

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= CHUNK:
            raise ValueError(f"a header says that {size} bytes belong to it")
        self.take(self.position + size)
        while len(self.held) < size:
            piece = next(self.pieces, None)
            if piece is None:
                raise EOFError(f"it ends at byte {self.position + len(self.held)}, in the midst")
            self.held += piece
        self.last = bytes(self.held[:size])
        del self.held[:size]
        self.position += size
        return self.last

    def seek(self, position: int, whence: int = io.SEEK_SET, /) -> int:
        if position < self.position or whence != io.SEEK_SET:
            raise ValueError("a header points back to what was read")
        while position > self.position:
            self.read(min(CHUNK, position - self.position))
        return position

    def rest(self) -> Iterator[bytes]:
        """What has not been read."""
        for piece in itertools.chain([bytes(self.held)], self.pieces):
            self.position += len(piece)
            self.take(self.position)
            yield piece
