"""PNG files of labels: numbers, possibly with a palette, or colours."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from deq_core.experiment.data.image_headers import opened, require_whole
from deq_core.experiment.data.images import FileFormatError
from deq_core.experiment.files import write_bytes
from deq_core.experiment.reading import read_bytes

NUMBERS = ("1", "L", "P")
"""Pillow's modes whose pixels are numbers of at most 8 bits."""
BITS = 24
"""Offset of the bits per channel in a PNG file."""


def read_numbers(path: Path) -> np.ndarray:
    """uint8 (h, w): the stored numbers of a black-and-white, grey or indexed PNG, regardless of its palette.

    Grey of 2 or 4 bits is refused, because it is ambiguous: as a shade, 1 of 15 equals 17 of 255, and the file does
    not say whether 1 or 17 is the label.

    Raises:
        FileFormatError: the file is damaged, or its pixels are colours or numbers of another bit depth.
    """
    mode, bits, pixels = _read(path, None)
    if mode not in NUMBERS:
        raise _unfit(path, "a PNG with a number of at most 8 bits for each pixel", f"one of mode {mode}")
    if mode == "L" and bits < 8:
        raise _unfit(path, "a grey PNG of 8 bits, or an indexed one", f"a grey one of {bits}")
    return pixels


def read_colours(path: Path) -> np.ndarray:
    """uint8 (h, w, 3): the RGB colours of a PNG, through its palette if it has one; transparency is dropped.

    Raises:
        FileFormatError: the file is damaged, or has more than 8 bits per channel.
    """
    mode, bits, pixels = _read(path, "RGB")
    if mode not in (*NUMBERS, "LA", "RGB", "RGBA") or bits > 8:  # Pillow reduces 16 bits to 8
        raise _unfit(path, "a PNG of 8 bits a channel", f"one of mode {mode} with {bits}")
    return pixels


def _unfit(path: Path, expected: str, got: str) -> FileFormatError:
    return FileFormatError(f"{path}: expected {expected}, got {got}; save it as such")


def write_indexed(path: Path, numbers: np.ndarray, palette: Sequence[tuple[int, int, int]]) -> None:
    """Writes uint8 (h, w) as an indexed PNG; `palette` has the RGB colours of numbers 0, 1, ...; the rest is black."""
    image = Image.frombytes("P", numbers.shape[::-1], np.ascontiguousarray(numbers).tobytes())
    image.putpalette([value for colour in palette for value in colour])
    data = BytesIO()
    image.save(data, format="PNG")
    write_bytes(path, data.getvalue())


def _read(path: Path, mode: str | None) -> tuple[str, int, np.ndarray]:
    """Mode and bits per channel of a PNG, and its pixels converted to `mode`."""
    data = read_bytes(path, FileFormatError)
    with opened(path, BytesIO(data), len(data), ("PNG",)) as image:
        require_whole(path, image, data)
    with opened(path, BytesIO(data), len(data), ("PNG",)) as image:  # `verify` makes an image unusable
        stored = image.mode
        return stored, data[BITS], np.asarray(image if mode is None else image.convert(mode)).astype(np.uint8)
