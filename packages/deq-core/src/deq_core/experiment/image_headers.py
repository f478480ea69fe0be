"""Whether an image file is whole, by its header and length alone: much faster than reading it."""

import re
from pathlib import Path

from deq_core.experiment.images import JPEG_END, JPEG_START, damaged

PNG_START, PPM_START = b"\x89PNG\r\n\x1a\n", b"P6"
TRAILER = 65536  # bytes at the end of a JPEG file that may follow its last marker: some cameras append to it
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # JPEG markers that begin a frame, and so state its size


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of a PNG, a JPEG or a binary PPM, whatever the file is called: decoders ask for no name either.

    Raises:
        FileFormatError: the file is empty, truncated or something else.
    """
    start = beginning(path, len(PNG_START))
    if start == PNG_START:
        return png_size(path)
    if start.startswith(JPEG_START):
        return jpeg_size(path)
    if start.startswith(PPM_START):
        return ppm_size(path)
    raise damaged(path, "a PNG, a JPEG or a binary PPM file", f"{path.stat().st_size} bytes that begin with {start!r}")


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
    header = re.match(PPM_START + space + rb"(\d+)" + space + rb"(\d+)" + space + rb"(\d+)\s", start)
    if header is None:
        raise damaged(path, "a header 'P6 width height maximum'", repr(start[:24]))
    width, height, depth = int(header[1]), int(header[2]), 1 if int(header[3]) < 256 else 2
    expected = header.end() + 3 * depth * width * height
    if length < expected:
        raise damaged(path, f"{expected} bytes of {width}x{height} pixels", f"{length}")
    return height, width


def jpeg_size(path: Path) -> tuple[int, int]:
    """Of a JPEG whose segments lead to its pixels, and that has an end marker behind them."""
    length = path.stat().st_size
    size = None
    with path.open("rb") as file:
        file.seek(len(JPEG_START))
        while True:
            marker = file.read(2)
            while marker == b"\xff\xff":  # fill bytes
                marker = b"\xff" + file.read(1)
            count = int.from_bytes(file.read(2), "big")
            if len(marker) < 2 or marker[0] != 0xFF or count < 2 or file.tell() + count - 2 > length:
                raise damaged(path, "segments up to the pixels", f"{marker!r} at byte {file.tell() - 4} of {length}")
            if marker[1] in FRAMES:
                frame = file.read(5)  # bits a sample, height, width
                size = (int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:], "big"))
                file.seek(-5, 1)
            if marker[1] == 0xDA:
                break
            file.seek(count - 2, 1)
        file.seek(max(file.tell(), length - TRAILER))
        if size is None or JPEG_END not in file.read():
            raise damaged(path, "a size, and an end marker behind the pixels", f"{length} bytes without")
    return size


def beginning(path: Path, count: int) -> bytes:
    """The first bytes of a file."""
    with path.open("rb") as file:
        return file.read(count)
