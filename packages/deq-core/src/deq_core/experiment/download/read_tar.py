"""Reads tar archives strictly: damage that `tarfile` takes for the end of the archive is an error."""

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
PADDING = 1 << 24  # maximum bytes of zeros after an archive; blocks of tapes have up to 1 MiB
DECOMPRESSORS: dict[str, tuple[bytes, Callable[[], Any]]] = {
    "gzip": (b"\x1f\x8b", lambda: zlib.decompressobj(wbits=31)),
    "bzip2": (b"BZh", bz2.BZ2Decompressor),
    "xz": (b"\xfd7zXZ\0", lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=1 << 30)),
}
"""{name of a compression: (magic bytes, factory of a decompressor)}"""


@dataclass(frozen=True)
class Member:
    """A member of an archive: a file or folder."""

    name: str
    size: int
    data: IO[bytes] | None
    """Content, which must be read before the next member; None for a folder."""
    fault: str = ""
    """Reason why the member must not be unpacked; empty if it may be."""


def kind_of(start: bytes) -> str | None:
    """Format of a file by its first 512 bytes: "tar", the name of a compression, or None."""
    try:
        tarfile.TarInfo.frombuf(start, "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError):
        return next((name for name, (magic, _) in DECOMPRESSORS.items() if start.startswith(magic)), None)
    return "tar"


def members(file: BinaryIO, kind: str, take: Callable[[int], None]) -> Iterator[Member]:
    """The members of a tar archive, which is read to its end.

    `tarfile` stops silently at a damaged header, at the end of the file, and at a block of zeros. Here an archive must
    end in two blocks of zeros, followed only by zeros.

    Args:
        file: the archive.
        kind: "tar" or the name of a compression.
        take: called with a lower bound on the uncompressed size in bytes, before these bytes are read.

    Raises:
        ValueError, EOFError, tarfile.TarError, zlib.error, lzma.LZMAError, OSError without errno: damage.
    """
    stream = Stream(iter(lambda: file.read(CHUNK), b"") if kind == "tar" else decompressed(file, kind), take)
    source = tarfile.TarFile(fileobj=stream)
    while (header := source.next()) is not None:
        sort = "is a sparse file" if header.issparse() else "" if header.isfile() else "is a link or device"
        if header.isdir():
            yield Member(header.name, 0, None)
        else:
            yield Member(header.name, header.size, source.extractfile(header) if not sort else io.BytesIO(), sort)
        source.members.clear()  # pyright: ignore[reportAttributeAccessIssue] - tarfile would keep millions of headers
    if stream.last.strip(b"\0"):
        raise ValueError(f"expected a header at byte {stream.tell() - len(stream.last)}, got other data")
    end = stream.tell()
    if stream.read(tarfile.BLOCKSIZE).strip(b"\0") or any(piece.strip(b"\0") for piece in stream.rest()):
        raise ValueError("data follows after its end")
    if stream.tell() - end > PADDING:
        raise ValueError(f"{stream.tell() - end} zeros follow its end, so it may be incomplete")


def decompressed(file: BinaryIO, kind: str) -> Iterator[bytes]:
    """The content of a file of one or more compressed streams, with checksums verified; zeros may follow each stream.

    Python's `bz2` and `lzma` files take a damaged second stream for the end.
    """
    data = file.read(CHUNK)
    while data:
        stream = DECOMPRESSORS[kind][1]()
        while not stream.eof:
            if not data and getattr(stream, "needs_input", True) and not (data := file.read(CHUNK)):
                raise EOFError(f"it ends in the middle of its {kind} data")
            yield stream.decompress(data, CHUNK)
            data = getattr(stream, "unconsumed_tail", b"")  # unlike the others, zlib returns unused input
        data = stream.unused_data.lstrip(b"\0")
        while not data and (more := file.read(CHUNK)):
            data = more.lstrip(b"\0")


class Stream(io.BufferedIOBase):
    """Forward-only file over pieces of bytes; reads return exactly the requested bytes or raise EOFError."""

    def __init__(self, pieces: Iterator[bytes], take: Callable[[int], None]) -> None:
        self.pieces, self.take = pieces, take
        self.held = bytearray()
        self.position = 0
        self.last = b""
        """Result of the last read."""

    def tell(self) -> int:
        return self.position

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= CHUNK:
            raise ValueError(f"a header says that {size} bytes belong to it")
        self.take(self.position + size)
        while len(self.held) < size:
            piece = next(self.pieces, None)
            if piece is None:
                raise EOFError(f"it is cut short at byte {self.position + len(self.held)}")
            self.held += piece
        self.last = bytes(self.held[:size])
        del self.held[:size]
        self.position += size
        return self.last

    def seek(self, position: int, whence: int = io.SEEK_SET, /) -> int:
        if position < self.position or whence != io.SEEK_SET:
            raise ValueError("a header points to data before it")
        while position > self.position:
            self.read(min(CHUNK, position - self.position))
        return position

    def rest(self) -> Iterator[bytes]:
        """The unread pieces."""
        for piece in itertools.chain([bytes(self.held)], self.pieces):
            self.position += len(piece)
            self.take(self.position)
            yield piece
