"""PNG files whose pixels are labels: numbers, with a palette that shows them in colour, or colours."""

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
"""Pillow's modes of pixels that are numbers of at most 8 bits."""
BITS = 24
"""Where the header of a PNG, its first chunk, says how many a channel has."""


def read_numbers(path: Path) -> np.ndarray:
    """uint8 (h, w): the numbers of a black-and-white, grey or indexed PNG as they are stored, whatever its palette.

    Grey of 2 or 4 bits is refused: by the format it is a shade, 1 of 15 as light as 17 of 255, and which of the two
    somebody meant the file does not tell.

    Raises:
        FileFormatError: the file is damaged, or its pixels are colours or numbers of more bits, or of fewer.
    """
    mode, bits, pixels = _read(path, None)
    if mode not in NUMBERS:
        raise _unfit(path, "a PNG with a number of at most 8 bits for each pixel", f"one of mode {mode}")
    if mode == "L" and bits < 8:
        raise _unfit(path, "a grey PNG of 8 bits, or an indexed one", f"a grey one of {bits}")
    return pixels


def read_colours(path: Path) -> np.ndarray:
    """uint8 (h, w, 3): the colours of a PNG, RGB, those of its palette where it has one; transparency is left out.

    Raises:
        FileFormatError: the file is damaged, or has more than 8 bits a channel.
    """
    mode, bits, pixels = _read(path, "RGB")
    if mode not in (*NUMBERS, "LA", "RGB", "RGBA") or bits > 8:  # of 16 Pillow leaves the upper 8
        raise _unfit(path, "a PNG of 8 bits a channel", f"one of mode {mode} with {bits}")
    return pixels


def _unfit(path: Path, expected: str, got: str) -> FileFormatError:
    return FileFormatError(f"{path}: expected {expected}, got {got}; save it as such")


def write_indexed(path: Path, numbers: np.ndarray, palette: Sequence[tuple[int, int, int]]) -> None:
    """Writes uint8 (h, w) as an indexed PNG; number i is shown in the i-th colour of the palette, RGB, others black."""
    image = Image.frombytes("P", numbers.shape[::-1], np.ascontiguousarray(numbers).tobytes())
    image.putpalette([value for colour in palette for value in colour])
    data = BytesIO()
    image.save(data, format="PNG")
    write_bytes(path, data.getvalue())


def _read(path: Path, mode: str | None) -> tuple[str, int, np.ndarray]:
    """Mode, bits a channel, and pixels of a PNG, the latter converted."""
    data = read_bytes(path, FileFormatError)
    with opened(path, BytesIO(data), len(data), ("PNG",)) as image:
        require_whole(path, image, data)
    with opened(path, BytesIO(data), len(data), ("PNG",)) as image:  # of one that was verified nothing is left
        stored = image.mode
        return stored, data[BITS], np.asarray(image if mode is None else image.convert(mode)).astype(np.uint8)
