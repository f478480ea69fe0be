"""Whether a file is whole, by its header and length alone: much faster than reading it."""

import re
from pathlib import Path

from deq_core.experiment.images import damaged
from deq_flow.data.io import PFM_HEADER, flo_size, pfm_header
from deq_flow.data.spring import opened_flo5

PNG_START = b"\x89PNG\r\n\x1a\n"


def size_of(path: Path) -> tuple[int, int]:
    """Height and width of an image or of flow: .png, .ppm, .flo, .pfm or .flo5.

    Raises:
        FileFormatError: the file is empty, truncated or something else.
        ValueError: the suffix is another one.
    """
    match path.suffix.lower():
        case ".png":
            return png_size(path)
        case ".ppm":
            return ppm_size(path)
        case ".flo":
            return flo_size(path, beginning(path, 12), path.stat().st_size)
        case ".pfm":
            return pfm_header(path, beginning(path, PFM_HEADER), path.stat().st_size).shape[:2]
        case ".flo5":
            with opened_flo5(path) as stored:
                return stored.shape[0], stored.shape[1]
        case suffix:
            raise ValueError(f"{path}: expected one of .png, .ppm, .flo, .pfm and .flo5, got {suffix!r}")


def png_size(path: Path) -> tuple[int, int]:
    """Of a PNG whose chunks follow each other to the last one."""
    length = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if start != PNG_START:
            raise damaged(path, "a PNG file", f"{start!r}, {length} bytes")
        size = (0, 0)
        while True:
            head = file.read(8)
            kind, end = head[4:], file.tell() + int.from_bytes(head[:4], "big") + 4  # a checksum follows the data
            if len(head) < 8 or end > length:
                raise damaged(path, "chunks up to IEND", f"{length} bytes, which end before")
            if not re.fullmatch(rb"[A-Za-z]{4}", kind) or (kind == b"IHDR") != (size == (0, 0)):
                raise damaged(path, "a chunk of a PNG file, IHDR first", f"{kind!r} at byte {file.tell() - 8}")
            if kind == b"IHDR":
                width, height = (int.from_bytes(file.read(4), "big") for _ in range(2))
                size = (height, width)
            if kind == b"IEND":
                return size
            file.seek(end)


def ppm_size(path: Path) -> tuple[int, int]:
    """Of a binary PPM."""
    start, length = beginning(path, 256), path.stat().st_size
    space = rb"(?:\s|#[^\n]*\n)+"
    header = re.match(rb"P6" + space + rb"(\d+)" + space + rb"(\d+)" + space + rb"(\d+)\s", start)
    if header is None:
        raise damaged(path, "a header 'P6 width height maximum'", repr(start[:24]))
    width, height, depth = int(header[1]), int(header[2]), 1 if int(header[3]) < 256 else 2
    expected = header.end() + 3 * depth * width * height
    if length < expected:
        raise damaged(path, f"{expected} bytes of {width}x{height} pixels", f"{length}")
    return height, width


def beginning(path: Path, count: int) -> bytes:
    """The first bytes of a file."""
    with path.open("rb") as file:
        return file.read(count)
