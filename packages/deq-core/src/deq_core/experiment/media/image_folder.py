"""The images of a folder in natural order."""

import re
import sys
from itertools import pairwise
from pathlib import Path

from deq_core.experiment.errors import FileFormatError

IMAGES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""Suffixes of images that are read."""

UNREAD = (".avif", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jxl")
"""Suffixes of images that are not read."""


def image_files(folder: Path) -> tuple[Path, ...]:
    """The images of a folder in natural order, without hidden files.

    Images of unsupported formats are skipped with a message on stderr.

    Raises:
        FileFormatError: an image is a broken link.
    """
    seen = sorted((path for path in folder.iterdir() if path.name[0] != "."), key=natural)
    found = [path for path in seen if path.suffix.lower() in IMAGES]
    if others := [path.name for path in seen if path.suffix.lower() in UNREAD]:
        print(
            f"{folder}: left out {len(others)} images of formats that are not read, such as {others[0]}; convert "
            f"them to one of {', '.join(IMAGES)}",
            file=sys.stderr,
        )
    if lost := [path for path in found if not path.exists()]:
        raise FileFormatError(
            f"{lost[0]}: a link that leads nowhere ({len(lost)} of {len(found)} images); mend or remove it"
        )
    return tuple(path for path in found if path.is_file())


def apart(images: tuple[Path, ...]) -> tuple[Path, ...]:
    """`images`, once checked to be different frames.

    Raises:
        FileFormatError: two names differ only in their suffix.
    """
    for first, second in pairwise(images):
        if first.stem == second.stem:
            raise FileFormatError(f"{first} and {second.name}: two images of one name, so one frame twice; remove one")
    return images


def natural(path: Path) -> tuple[list[str | int], str]:
    """Sort key that puts frame_9 before frame_10: the alternating text and numbers of the name, then the name."""
    parts = re.split(r"(\d+)", path.stem)
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], path.name
