"""Whether an image file is whole, by decoding it: much slower than `image_headers`, and it sees damage in the middle.

A PNG has checksums. A JPEG has none: its decoder fills up what is missing, calls that a success, and only remarks on it
in a line on stderr, which is read here. What was cut off leaves such a line, unless a progressive file ends between two
scans; a few wrong bytes may decode to other pixels without one: docs/vision-data.md has the shares.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

import cv2
import numpy as np

from deq_core.experiment.images import damaged, decode

FAULTS = re.compile(r"Corrupt JPEG data: (?!bad ICC).*|Premature end of JPEG file|Inconsistent progression.*")
"""What libjpeg says of damaged pixels. It has remarks on harmless things, such as a colour profile, too."""


def whole_pixels(path: Path) -> np.ndarray:
    """The pixels of an image file as they are stored, channels last in OpenCV's order.

    Raises:
        FileFormatError: the file does not decode, or not without a fault.
    """
    with TemporaryFile() as remarks:
        with stderr_into(remarks.fileno()):
            pixels = decode(path, cv2.IMREAD_UNCHANGED)
        remarks.seek(0)
        fault = FAULTS.search(remarks.read().decode(errors="replace"))
    if fault is not None:
        raise damaged(path, "pixels that decode without a fault", repr(fault[0]))
    return pixels


@contextmanager
def stderr_into(file: int) -> Iterator[None]:
    """Sends what the process writes to stderr, libraries in C included, to an open file; of all its threads."""
    kept = os.dup(2)
    os.dup2(file, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
