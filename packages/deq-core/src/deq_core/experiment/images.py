"""Image files: pixels in, pixels out, whole or not at all.

Tensors are channels first. A reader either returns the whole file or raises `FileFormatError`; a writer leaves either
the whole file or none.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from deq_core.experiment.files import write_bytes

JPEG_START, JPEG_END = b"\xff\xd8", b"\xff\xd9"


class FileFormatError(ValueError):
    """A file is truncated, corrupt, or not of the format its name promises."""


def damaged(path: Path, expected: str, got: str) -> FileFormatError:
    """The error for a file that holds something else than expected."""
    return FileFormatError(f"{path}: expected {expected}, got {got}; copy or unpack the file again")


def read_image(path: Path) -> Tensor:
    """uint8 (3, h, w), RGB: a grey image is repeated three times, an alpha channel dropped, 16 bits cut to 8."""
    pixels = decode(path, cv2.IMREAD_COLOR)[:, :, ::-1]
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def write_image(path: Path, image: Tensor) -> None:
    """Writes uint8 RGB (3, h, w) in the format of the suffix: .png or .ppm."""
    if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(f"{path}: expected a uint8 image (3, h, w), got {image.dtype} {tuple(image.shape)}")
    encode(path, image.permute(1, 2, 0).numpy()[:, :, ::-1])


def read_mask(path: Path) -> Tensor:
    """bool (h, w): True where the grey image is not black."""
    return torch.from_numpy(decode(path, cv2.IMREAD_GRAYSCALE) > 0)


def write_mask(path: Path, mask: Tensor) -> None:
    """Writes bool (h, w) as a grey image, 255 where True."""
    encode(path, mask.numpy().astype(np.uint8) * 255)


def decode(path: Path, mode: int) -> np.ndarray:
    """The pixels of an image file, channels last, as OpenCV's `mode` asks for them."""
    data = path.read_bytes()
    pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), mode) if data else None
    if pixels is None or (data[:2] == JPEG_START and not reaches_end(data)):
        raise damaged(path, f"a complete {path.suffix or 'image'} file", f"{len(data)} bytes that do not decode")
    return pixels


def reaches_end(jpeg: bytes) -> bool:
    """Whether an end marker follows the compressed pixels; without one, OpenCV 4 fills up the image with grey."""
    position = 2
    while jpeg[position : position + 1] == b"\xff" and jpeg[position + 1 : position + 2] != b"\xda":  # to the pixels
        position += 2 + int.from_bytes(jpeg[position + 2 : position + 4], "big")
    return JPEG_END in jpeg[position:]


def encode(path: Path, pixels: np.ndarray) -> None:
    """Writes pixels, channels last in OpenCV's order, in the format of the suffix."""
    done, data = cv2.imencode(path.suffix, pixels)
    if not done:
        raise ValueError(f"{path}: OpenCV cannot write this format; use .png or .ppm")
    write_bytes(path, data.tobytes())


@contextmanager
def one_thread() -> Iterator[None]:
    """Keeps OpenCV from using threads of its own: results then depend on none, and a forked process cannot hang."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)
