"""What an image file says of itself, by Pillow: its kind, its size as stored, and whether the file is whole."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from PIL import Image
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, TILELENGTH, TILEWIDTH, TiffImageFile

from deq_core.experiment.errors import FileFormatError, damaged
from deq_core.experiment.reading import opening, read_bytes

logging.getLogger("PIL").addHandler(logging.NullHandler())  # our errors say what its lines on stderr would

FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Kinds of files that are read, whatever they are called; PPM stands for its grey and black-and-white relatives too."""

ANY_PIXELS, PIXELS_A_BYTE, MOST_PIXELS = 4096 * 3072, 12, 2**27
"""An image may have the first number of pixels, or the second for each byte of its file, up to the third. Photographs
have about one a byte, and the largest 108 million; a file of a few kB that would fill all memory has more."""

ORIENTATION = 0x112
"""The tag of a TIFF, and of EXIF data, that says how a picture is to be turned before a person looks at it."""


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of an image's pixels as they are stored, by the header of the file alone.

    Raises:
        FileFormatError: the header is damaged, of another kind of file, or of too many pixels.
    """
    with (
        opening(path, FileFormatError),
        path.open("rb") as file,
        opened(path, file, path.stat().st_size, FORMATS) as image,
    ):
        return stored_size(image)


def whole_size(path: Path, *, formats: tuple[str, ...] = FORMATS, decoded: bool = False) -> tuple[int, int]:
    """`image_size` of a file that is whole: by the checksums of a PNG, the end of a JPEG, the length of others.

    Args:
        path: of the file.
        formats: those of `FORMATS` that it may have.
        decoded: whether its pixels are decoded too, which takes longer. Even then part of what was overwritten in the
            middle of a JPEG passes, which has no checksums.

    Raises:
        FileFormatError: it is damaged, or of another kind.
    """
    data = read_bytes(path, FileFormatError)
    with opened(path, BytesIO(data), len(data), formats) as image:
        size, kind = stored_size(image), image.format
        require_whole(path, image, data)
        if kind != "PNG" and (decoded or not is_jpeg(image)):
            image.load()
    if decoded and kind == "PNG":
        with opened(path, BytesIO(data), len(data), formats) as image:  # of one that was verified nothing is left
            image.load()
    return size


def stored_orientation(path: Path, data: bytes) -> int:
    """Of a TIFF, from 1 to 8: how it is to be turned, as decoders do by themselves; 1 is not at all, as is all else.

    Raises:
        FileFormatError: the file `data` that was at `path` is cut off, or a damaged PNG, or as for `image_size`.
    """
    with opened(path, BytesIO(data), len(data), FORMATS) as image:
        require_whole(path, image, data)
        return int(image.tag_v2.get(ORIENTATION, 1)) if isinstance(image, TiffImageFile) else 1


@contextmanager
def opened(path: Path, file: BinaryIO, length: int, formats: tuple[str, ...]) -> Iterator[Image.Image]:
    """An image whose pixels are not read yet; what Pillow then raises, of many types, becomes a `FileFormatError`."""
    start = file.read(32)
    file.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow's own bound, and of metadata that it does not understand
            image = Image.open(file, formats=formats)
            require_moderate(path, image, length)
            yield image
    except FileFormatError:
        raise
    except Image.UnidentifiedImageError as error:
        raise damaged(path, f"a {', '.join(formats)} file", f"{length} bytes that begin with {start[:8]!r}") from error
    except Image.DecompressionBombError as error:
        raise FileFormatError(f"{path}: {error}; reduce it first") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # of the disk
        raise damaged(path, "a whole image", f"{length} bytes of which Pillow says: {error}") from error


def require_moderate(path: Path, image: Image.Image, length: int) -> None:
    """Raises FileFormatError where an image would take far more memory than its file of `length` bytes promises."""
    height, width = stored_size(image)
    pixels = height * width
    if isinstance(image, TiffImageFile):  # whose tiles may be larger than itself
        pixels = max(pixels, int(image.tag_v2.get(TILEWIDTH, 1)) * int(image.tag_v2.get(TILELENGTH, 1)))
    most = min(max(ANY_PIXELS, PIXELS_A_BYTE * length), MOST_PIXELS)
    if pixels > most:
        raise FileFormatError(
            f"{path}: expected at most {most} pixels in a file of {length} bytes, got {pixels}, {width}x{height}; "
            "reduce the image first, or copy the file again if it should be smaller"
        )


def stored_size(image: Image.Image) -> tuple[int, int]:
    """Height and width; Pillow itself turns a TIFF, and no other."""
    if isinstance(image, TiffImageFile):
        return int(image.tag_v2[IMAGELENGTH]), int(image.tag_v2[IMAGEWIDTH])
    return image.height, image.width


def is_jpeg(image: Image.Image) -> bool:
    """Whether it is one, or several in one file, which Pillow calls MPO."""
    return image.format in ("JPEG", "MPO")


def require_whole(path: Path, image: Image.Image, data: bytes) -> None:
    """Raises FileFormatError where a PNG was damaged or a JPEG cut off.

    Decoders fill up with grey what is missing, and take memory for what a PNG says that its parts hold.
    """
    if image.format == "PNG":
        ends = data.partition(b"\0\0\0\0IEND")[2].startswith(b"\xaeB`\x82")
    else:
        ends = not is_jpeg(image) or b"\xff\xd9" in data[scan_of(data) :]
    if not ends:
        raise damaged(path, f"the end of a {image.format} file", f"{len(data)} bytes without")
    if image.format == "PNG":
        image.verify()


def scan_of(jpeg: bytes) -> int:
    """Where the compressed pixels begin: behind segments, of which one may be a small JPEG with an end of its own."""
    position = 2
    while jpeg[position : position + 1] == b"\xff" and jpeg[position + 1 : position + 2] != b"\xda":
        fill = jpeg[position + 1 : position + 2] == b"\xff"
        position += 1 if fill else 2 + int.from_bytes(jpeg[position + 2 : position + 4], "big")
    return position
