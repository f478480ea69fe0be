"""Photographs shipped with scikit-image, scikit-learn and matplotlib, in a fixed split.

Training, validation and test data share no photograph.
"""

import hashlib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from deq_core.experiment.data.images import decode
from deq_core.experiment.data.layout import LayoutError
from deq_core.experiment.tables import read_rows

TRAINING = (
    "skimage/data/astronaut.png",
    "skimage/data/brick.png",
    "skimage/data/camera.png",
    "skimage/data/grass.png",
    "skimage/data/hubble_deep_field.jpg",
    "skimage/data/ihc.png",
    "skimage/data/moon.png",
    "skimage/data/retina.jpg",
    "skimage/data/rocket.jpg",
    "skimage/data/text.png",
)
MORE_TRAINING = (
    "matplotlib/mpl-data/sample_data/grace_hopper.jpg",
    "skimage/data/cell.png",
    "skimage/data/clock_motion.png",
    "skimage/data/color.png",
)
"""Further photographs and scans in the packages. page.png is left out, since its colour profile is damaged."""
VALIDATION = (
    "skimage/data/coffee.png",
    "skimage/data/coins.png",
    "skimage/data/gravel.png",
)
TEST = (
    "skimage/data/chelsea.png",
    "sklearn/datasets/images/china.jpg",
    "sklearn/datasets/images/flower.jpg",
)
STEREO = (
    "skimage/data/motorcycle_left.png",
    "skimage/data/motorcycle_right.png",
)
DISPARITY = "skimage/data/motorcycle_disp.npz"


def locate(name: str) -> Path:
    """Path of a file in an installed package, such as skimage/data/coffee.png, without importing the package.

    Raises:
        FileNotFoundError: the package is not installed or lacks the file.
    """
    package, _, inner = name.partition("/")
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(folder) / inner).is_file():
            return path
    raise FileNotFoundError(
        f"{name} is not in the installed packages; install scikit-image>=0.25, scikit-learn>=1.6 and matplotlib>=3.9 "
        "from their wheels"
    )


def load(name: str) -> np.ndarray:
    """A photograph as uint8 RGB (h, w, 3)."""
    return np.ascontiguousarray(decode(locate(name), cv2.IMREAD_COLOR)[:, :, ::-1])


def load_all(names: tuple[str, ...]) -> tuple[np.ndarray, ...]:
    """Photographs in the order of `names`, each uint8 RGB (h, w, 3)."""
    return tuple(load(name) for name in names)


def load_listed(listing: Path, folder: Path, side: int) -> tuple[np.ndarray, ...]:
    """The photographs that a table lists, each uint8 RGB (h, w, 3).

    Args:
        listing: CSV file with the columns `file`, a path relative to `folder`, and `sha256`; others are ignored.
        folder: folder of the files.
        side: maximum length of the longer side; larger photographs are downscaled.

    Raises:
        LayoutError: the table is empty or lacks a column, or a file is missing or has another SHA-256.
    """
    rows = read_rows(listing)
    if not rows or not all({"file", "sha256"} <= row.keys() for row in rows):
        raise LayoutError(f"{listing}: expected the columns file and sha256, and a photograph in every row")
    found = []
    for row in rows:
        path = folder / str(row["file"])
        if not path.is_file():
            raise LayoutError(f"{path}: no such file, one of the {len(rows)} photographs that {listing} lists")
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        if digest != row["sha256"]:
            raise LayoutError(f"{path}: expected SHA-256 {row['sha256']}, as {listing} has it, got {digest}")
        # the digest identifies the file, so the limit on pixels per byte is not needed
        pixels = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), cv2.IMREAD_COLOR)
        if pixels is None:
            raise LayoutError(f"{path}: OpenCV cannot decode it; leave it out of {listing}")
        found.append(reduced(pixels, side))
    return tuple(found)


def load_folder(files: Sequence[Path], side: int) -> tuple[np.ndarray, ...]:
    """The user's own photographs, uint8 RGB (h, w, 3), downscaled so that the longer side is at most `side` pixels.

    Raises:
        FileFormatError: a file is damaged.
    """
    return tuple(reduced(decode(path, cv2.IMREAD_COLOR), side) for path in files)


def reduced(pixels: np.ndarray, side: int) -> np.ndarray:
    """RGB from OpenCV's BGR, downscaled so that the longer side is at most `side` pixels."""
    factor = side / max(pixels.shape[:2])
    if factor < 1:
        pixels = cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(pixels[:, :, ::-1])


def motorcycle() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The Middlebury stereo pair "Motorcycle" (Scharstein et al., GCPR 2014): left, right, disparity of the left.

    Frames are uint8 RGB (500, 741, 3). The disparity is float32 (500, 741) in pixels, infinite where unknown; pixel x
    of the left frame is at x - disparity in the right frame.
    """
    left, right = load_all(STEREO)
    with np.load(locate(DISPARITY)) as archive:
        return left, right, archive["arr_0"]
