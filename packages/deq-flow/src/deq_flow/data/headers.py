"""Whether a file is whole, by its header and length alone: much faster than reading it."""

from pathlib import Path

from deq_core.experiment.image_headers import beginning, image_size
from deq_flow.data.io import PFM_HEADER, flo_size, pfm_header
from deq_flow.data.spring import opened_flo5


def size_of(path: Path) -> tuple[int, int]:
    """Height and width of an image or of flow: .png, .ppm, .flo, .pfm or .flo5.

    Raises:
        FileFormatError: the file is empty, truncated or something else.
        ValueError: the suffix is another one.
    """
    match path.suffix.lower():
        case ".png" | ".ppm":
            return image_size(path)
        case ".flo":
            return flo_size(path, beginning(path, 12), path.stat().st_size)
        case ".pfm":
            return pfm_header(path, beginning(path, PFM_HEADER), path.stat().st_size).shape[:2]
        case ".flo5":
            with opened_flo5(path) as stored:
                return stored.shape[0], stored.shape[1]
        case suffix:
            raise ValueError(f"{path}: expected one of .png, .ppm, .flo, .pfm and .flo5, got {suffix!r}")
