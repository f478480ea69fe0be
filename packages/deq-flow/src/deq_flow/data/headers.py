"""Checks of a file's header and length without decoding its pixels, which is faster than reading it."""

from pathlib import Path

from deq_core.experiment.data.image_headers import whole_size
from deq_core.experiment.data.images import FileFormatError, damaged
from deq_core.experiment.media.image_folder import IMAGES
from deq_core.experiment.reading import opening
from deq_flow.data.flo5 import opened_flo5
from deq_flow.data.io import KITTI_FLOW, PFM_HEADER, flo_size, pfm_header

THINGS_FLOW = "optical_flow"
"""Folder of FlyingThings3D below which maps are flow."""


def size_of(path: Path) -> tuple[int, int]:
    """Height and width of an image, or of a map or flow in .flo, .pfm or .flo5; the folder tells whether it is flow.

    Raises:
        FileFormatError: the file is empty, truncated or of another format.
        ValueError: the suffix is unknown.
    """
    match path.suffix.lower():
        case ".pfm" if THINGS_FLOW not in path.parts:
            height, width, _ = pfm_header(path, beginning(path, PFM_HEADER), path.stat().st_size).shape
            return height, width
        case suffix if suffix in IMAGES and path.parent.name not in KITTI_FLOW:
            return whole_size(path)
        case _:
            return flow_size(path)


def flow_size(path: Path) -> tuple[int, int]:
    """Height and width of flow: .flo, .pfm, .flo5, or KITTI's 16-bit .png.

    Raises:
        FileFormatError: the file is empty, truncated or of another format.
        ValueError: the suffix is unknown.
    """
    match path.suffix.lower():
        case ".png":
            size = whole_size(path, formats=("PNG",))
            if (kind := tuple(beginning(path, 26)[24:])) != (16, 2):
                bits, colours = kind
                raise damaged(path, "a 16-bit PNG of three channels", f"{bits} bits of PNG's colour type {colours}")
            return size
        case ".flo":
            return flo_size(path, beginning(path, 12), path.stat().st_size)
        case ".pfm":
            height, width, channels = pfm_header(path, beginning(path, PFM_HEADER), path.stat().st_size).shape
            if channels != 3:
                raise damaged(path, "three channels, of which the third is not used", f"{channels}")
            return height, width
        case ".flo5":
            with opened_flo5(path) as stored:
                return stored.shape[0], stored.shape[1]
        case suffix:
            raise ValueError(f"{path}: expected an image, or flow in .flo, .pfm, .flo5 or .png, got {suffix!r}")


def beginning(path: Path, count: int) -> bytes:
    """The first bytes of a file."""
    with opening(path, FileFormatError), path.open("rb") as file:
        return file.read(count)
