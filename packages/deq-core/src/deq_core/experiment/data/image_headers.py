"""Format, stored size and completeness of image files, read with Pillow, and the pixels that OpenCV would change."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    EXTRASAMPLES,
    IMAGELENGTH,
    IMAGEWIDTH,
    PLANAR_CONFIGURATION,
    TILELENGTH,
    TILEWIDTH,
    TiffImageFile,
)

from deq_core.experiment.errors import FileFormatError, damaged
from deq_core.experiment.reading import opening, read_bytes

logging.getLogger("PIL").addHandler(logging.NullHandler())  # our errors replace its lines on stderr

FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that are read, whatever the suffix. PPM includes PGM and PBM."""

ANY_PIXELS, PIXELS_A_BYTE, MOST_PIXELS = 4096 * 3072, 12, 2**27
"""Limits on pixels: any image may have `ANY_PIXELS`; larger ones `PIXELS_A_BYTE` for each byte of the file, up to
`MOST_PIXELS`. Photographs have about one pixel per byte; one of 108 million pixels is below the last limit."""

MOST_BITS = 16
"""Limit on the bits of a sample of a TIFF; 32 bits are usually floating point, whose range is unknown."""
TIFF = f"a whole TIFF with integer samples of at most {MOST_BITS} bits"

ORIENTATION = 0x112
"""Tag of TIFF and EXIF data for the rotation that shows the image upright."""
IN_PLANES = 2
"""Value of TIFF's tag `PLANAR_CONFIGURATION` for channels that are stored one after the other."""
SEPARATE = 2
"""Value of TIFF's tag `EXTRASAMPLES` for unassociated alpha, by which colours are not multiplied."""


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of an image as stored, from the header alone.

    Raises:
        FileFormatError: the file is missing, or its header is damaged, belongs to another format, or announces too many
            pixels.
    """
    with (
        opening(path, FileFormatError),
        path.open("rb") as file,
        opened(path, file, path.stat().st_size, FORMATS) as image,
    ):
        return stored_size(image)


def whole_size(path: Path, *, formats: tuple[str, ...] = FORMATS, decoded: bool = False) -> tuple[int, int]:
    """`image_size` of a complete file: checks the checksums of a PNG, the end of a JPEG, the length of other formats.

    Args:
        path: the file.
        formats: allowed formats, from `FORMATS`.
        decoded: whether to decode the pixels as well, which is slower. Even so, some damage in the middle of a JPEG,
            which has no checksums, is not detected.

    Raises:
        FileFormatError: the file is missing, damaged, of another format, or has too many pixels for its length.
    """
    data = read_bytes(path, FileFormatError)
    with opened(path, BytesIO(data), len(data), formats) as image:
        size, kind = stored_size(image), image.format
        require_whole(path, image, data)
        if kind != "PNG" and (decoded or not is_jpeg(image)):
            image.load()
    if decoded and kind == "PNG":
        with opened(path, BytesIO(data), len(data), formats) as image:  # `verify` makes an image unusable
            image.load()
    return size


def stored_orientation(image: Image.Image) -> int:
    """Orientation of a TIFF from 1 (upright) to 8, which decoders apply by themselves; 1 for all other formats."""
    return int(image.tag_v2.get(ORIENTATION, 1)) if isinstance(image, TiffImageFile) else 1


def colours_beside_alpha(path: Path, image: Image.Image) -> np.ndarray | None:
    """Upright RGB colours, uint8 (h, w, 3), of a TIFF whose alpha is not yet in them; None for all other images.

    OpenCV multiplies these colours by alpha, and those of no other file.

    Raises:
        FileFormatError: Pillow cannot read these colours from `path`.
    """
    if not isinstance(image, TiffImageFile) or image.mode != "RGBA":
        return None
    if image.tag_v2.get(EXTRASAMPLES) != (SEPARATE,):
        return None
    if image.tag_v2.get(PLANAR_CONFIGURATION) == IN_PLANES and max(image.tag_v2[BITSPERSAMPLE]) > 8:
        raise FileFormatError(  # Pillow returns other colours
            f"{path}: expected the channels of a pixel side by side, got planes of 16 bits with alpha; save it "
            "without alpha, or with 8 bits"
        )
    return np.asarray(image.convert("RGB"))


@contextmanager
def opened(path: Path, file: BinaryIO, length: int, formats: tuple[str, ...]) -> Iterator[Image.Image]:
    """Opens an image without reading its pixels; errors of Pillow in the block become `FileFormatError`s."""
    start = file.read(32)
    file.seek(0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about Pillow's own limit and unknown metadata
            image = Image.open(file, formats=formats)
            require_moderate(path, image, length)
            if isinstance(image, TiffImageFile) and max(image.tag_v2.get(BITSPERSAMPLE, (1,))) > MOST_BITS:
                raise FileFormatError(
                    f"{path}: expected {TIFF}, got {max(image.tag_v2[BITSPERSAMPLE])} bits, integers or floating "
                    "point; convert it to 8 bits"
                )
            yield image
    except FileFormatError:
        raise
    except Image.UnidentifiedImageError as error:
        tiff = "TIFF" in formats and start.startswith((b"II*\0", b"MM\0*"))
        expected = TIFF if tiff else f"a {', '.join(formats)} file"
        raise damaged(path, expected, f"{length} bytes that begin with {start[:8]!r}") from error
    except Image.DecompressionBombError as error:
        raise FileFormatError(f"{path}: {error}; reduce it first") from error
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # an error of the disk, not of the file
        raise damaged(path, "a whole image", f"{length} bytes of which Pillow says: {error}") from error


def require_moderate(path: Path, image: Image.Image, length: int) -> None:
    """Raises FileFormatError if the image has too many pixels for a file of `length` bytes."""
    height, width = stored_size(image)
    pixels = height * width
    if isinstance(image, TiffImageFile):  # tiles may be larger than the image
        pixels = max(pixels, int(image.tag_v2.get(TILEWIDTH, 1)) * int(image.tag_v2.get(TILELENGTH, 1)))
    most = min(max(ANY_PIXELS, PIXELS_A_BYTE * length), MOST_PIXELS)
    if pixels > most:
        raise FileFormatError(
            f"{path}: expected at most {most} pixels in a file of {length} bytes, got {pixels}, {width}x{height}; "
            "reduce the image first, or copy the file again if it should be smaller"
        )


def stored_size(image: Image.Image) -> tuple[int, int]:
    """Height and width as stored. Pillow's own are those after rotation for TIFFs."""
    if isinstance(image, TiffImageFile):
        return int(image.tag_v2[IMAGELENGTH]), int(image.tag_v2[IMAGEWIDTH])
    return image.height, image.width


def is_jpeg(image: Image.Image) -> bool:
    """Whether the image is a JPEG, or several in one file, which Pillow calls MPO."""
    return image.format in ("JPEG", "MPO")


def require_whole(path: Path, image: Image.Image, data: bytes) -> None:
    """Raises FileFormatError if a PNG is damaged or a JPEG truncated.

    Decoders fill missing pixels with grey, and allocate memory of the sizes that a PNG's chunks announce.
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
    """Offset of the compressed pixels, after all segments; a thumbnail in a segment may have its own end marker."""
    position = 2
    while jpeg[position : position + 1] == b"\xff" and jpeg[position + 1 : position + 2] != b"\xda":
        fill = jpeg[position + 1 : position + 2] == b"\xff"
        position += 1 if fill else 2 + int.from_bytes(jpeg[position + 2 : position + 4], "big")
    return position
