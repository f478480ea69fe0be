"""Reads and writes image files.

Tensors are channels first. A reader returns the whole image or raises `FileFormatError`; a writer is atomic. Pixels are
read as stored, because boxes, labels, flow and published accuracies refer to stored pixels. `upright` applies the
orientation that the camera recorded.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from deq_core.experiment.data.image_headers import (
    FORMATS,
    colours_beside_alpha,
    opened,
    require_whole,
    stored_orientation,
)
from deq_core.experiment.errors import FileFormatError as FileFormatError
from deq_core.experiment.errors import damaged as damaged
from deq_core.experiment.files import write_bytes
from deq_core.experiment.reading import read_bytes

SILENT, WARNINGS = 0, 3
"""Log levels of OpenCV; its default is `WARNINGS`."""

TURNED_BACK: Mapping[int, Callable[[np.ndarray], np.ndarray]] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels, -1),
}
"""{orientation: function from upright pixels to pixels as stored}"""


def read_image(path: Path, *, upright: bool = False) -> Tensor:
    """uint8 (3, h, w), RGB: grey is repeated three times, an alpha channel dropped, 16 bits reduced to 8.

    Args:
        path: BMP, JPEG, PNG, PPM, TIFF or WebP file, whatever its suffix.
        upright: whether to apply the EXIF orientation; otherwise pixels are as stored.

    Raises:
        FileFormatError: the file is damaged, has another format, or has too many pixels for its length.
    """
    pixels = decode(path, cv2.IMREAD_COLOR, upright=upright)[:, :, ::-1]
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def write_image(path: Path, image: Tensor) -> None:
    """Writes uint8 RGB (3, h, w) in the format of the suffix: .png or .ppm."""
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(f"{path}: expected a uint8 image (3, h, w), got {image.dtype} {tuple(image.shape)}")
    encode(path, image.permute(1, 2, 0).numpy()[:, :, ::-1])


def read_mask(path: Path) -> Tensor:
    """bool (h, w): True where a grey image is not black."""
    return torch.from_numpy(decode(path, cv2.IMREAD_GRAYSCALE) > 0)


def write_mask(path: Path, mask: Tensor) -> None:
    """Writes bool (h, w) as a grey image, 255 where True."""
    encode(path, mask.numpy().astype(np.uint8) * 255)


def decode(path: Path, mode: int, *, upright: bool = False) -> np.ndarray:
    """Pixels of an image file, channels last, in OpenCV's `mode`; otherwise like `read_image`."""
    data = read_bytes(path, FileFormatError)
    with opened(path, BytesIO(data), len(data), FORMATS) as image:
        require_whole(path, image, data)
        orientation = stored_orientation(image)
        colours = colours_beside_alpha(path, image) if mode == cv2.IMREAD_COLOR else None
    flags = mode if upright else mode | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        with quiet():
            pixels = colours[:, :, ::-1] if colours is not None else cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise damaged(path, f"a complete {path.suffix or 'image'} file", f"{len(data)} bytes that do not decode")
    if upright or orientation not in TURNED_BACK:
        return pixels
    return np.ascontiguousarray(TURNED_BACK[orientation](pixels))  # OpenCV always rotates a TIFF


def encode(path: Path, pixels: np.ndarray) -> None:
    """Writes pixels (channels last, in OpenCV's order) in the format of the suffix."""
    done, data = cv2.imencode(path.suffix, pixels)
    if not done:
        raise ValueError(f"{path}: OpenCV cannot write this format; use .png or .ppm")
    write_bytes(path, data.tobytes())


@contextmanager
def quiet() -> Iterator[None]:
    """Silences OpenCV's warnings, which our errors replace, unless OPENCV_LOG_LEVEL asks for more.

    The level applies to the whole process.
    """
    logging: Any = getattr(cv2.utils, "logging", cv2)  # in cv2 itself before OpenCV 4.13
    level = logging.getLogLevel()
    if level <= WARNINGS:
        logging.setLogLevel(SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(level)


@contextmanager
def one_thread() -> Iterator[None]:
    """Limits OpenCV to one thread: results do not depend on threads, and forked processes cannot hang."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)
