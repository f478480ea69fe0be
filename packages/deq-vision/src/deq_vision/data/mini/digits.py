"""Clutter digits: real handwritten digits over real photographs, among pieces of other digits, 32 x 32 pixels.

The digits are the 1797 of scikit-learn (Alpaydin and Kaynak, UCI, 1998), 8 x 8 pixels of 17 grey levels; the
photographs are those of `deq_core.experiment.data.photographs`. Training, validation and test share neither.
"""

import gzip
from dataclasses import dataclass

import cv2
import numpy as np

from deq_core.experiment.data.photographs import locate

SIDE = 32  # pixels of an image
GLYPH = 8  # pixels of a digit as it was scanned
LEVELS = 16.0  # grey level of ink
TRAINING, VALIDATION, TEST = slice(0, 1200), slice(1200, 1400), slice(1400, 1797)  # of the digits, in their order


@dataclass(frozen=True, kw_only=True)
class DigitsConfig:
    """What an image shows. Lengths are pixels, colours grey levels from 0 to 255."""

    size: tuple[float, float] = (21.0, 29.0)
    """Least and greatest height of a digit, blank border of the scan included."""
    rotation: float = 10.0
    """Greatest turn, degrees."""
    shear: float = 0.1
    """Greatest sideways shift of a digit's top against its middle, in half heights."""
    contrast: tuple[float, float] = (55.0, 135.0)
    """Least and greatest difference between a digit and the mean of the background, in each channel alike."""
    tint: float = 30.0
    """Greatest further difference in each channel."""
    fragments: tuple[int, int] = (1, 2)
    """Least and most pieces of other digits."""
    fragment_share: tuple[float, float] = (0.3, 0.6)
    """Least and greatest part of a digit's height that a piece keeps."""
    zoom: tuple[float, float] = (1.0, 4.0)
    """Pixels of a photograph that one pixel of an image spans."""
    noise: float = 8.0
    """Standard deviation of the noise of each pixel and channel."""

    def __post_init__(self) -> None:
        for name in ("size", "contrast", "fragments", "fragment_share", "zoom"):
            low, high = getattr(self, name)
            if not 0 <= low <= high:
                raise ValueError(f"{name} must be 0 <= least <= greatest, got {(low, high)}")
        if self.size[0] < GLYPH or self.size[1] > SIDE:
            raise ValueError(f"size must be from {GLYPH} to {SIDE} pixels, got {self.size}")
        if self.zoom[0] <= 0 or self.fragment_share[1] >= 1:
            raise ValueError(f"zoom must be positive, fragment_share below 1, got {self.zoom}, {self.fragment_share}")
        if min(self.rotation, self.shear, self.tint, self.noise) < 0:
            raise ValueError(
                "rotation, shear, tint and noise must not be negative, got "
                f"{self.rotation}, {self.shear}, {self.tint} and {self.noise}"
            )


@dataclass(frozen=True)
class Glyphs:
    """Scanned digits."""

    ink: np.ndarray
    """float32 (n, 8, 8), from 0 to 1."""
    labels: np.ndarray
    """(n,), the digits they are."""

    @staticmethod
    def load(part: slice) -> "Glyphs":
        """A part of scikit-learn's digits, in its order."""
        with gzip.open(locate("sklearn/datasets/data/digits.csv.gz"), "rt") as file:
            table = np.loadtxt(file, delimiter=",", dtype=np.float32)[part]
        return Glyphs(table[:, :-1].reshape(-1, GLYPH, GLYPH) / LEVELS, table[:, -1].astype(np.int64))

    def draw(self, rng: np.random.Generator, label: int) -> np.ndarray:
        """One of the digits `label`."""
        return self.ink[rng.choice(np.flatnonzero(self.labels == label))]


def clutter_digit(
    rng: np.random.Generator, label: int, glyphs: Glyphs, photographs: tuple[np.ndarray, ...], config: DigitsConfig
) -> np.ndarray:
    """uint8 RGB (32, 32, 3): a background, pieces of other digits, and before them a whole digit `label`."""
    image = random_background(rng, photographs, config)
    mean = image.mean(axis=(0, 1))
    for _ in range(rng.integers(*config.fragments, endpoint=True)):
        other = int(rng.integers(10))
        ink = random_stroke(rng, glyphs.draw(rng, other), config)
        image = paint(image, ink * random_cut(rng, ink, config), random_colour(rng, mean, config))
    image = paint(image, random_stroke(rng, glyphs.draw(rng, label), config), random_colour(rng, mean, config))
    image = image + rng.normal(0, config.noise, image.shape)
    return np.rint(image).clip(0, 255).astype(np.uint8)


def random_background(
    rng: np.random.Generator, photographs: tuple[np.ndarray, ...], config: DigitsConfig
) -> np.ndarray:
    """float64 (32, 32, 3): a piece of a photograph, half of them mirrored."""
    photograph = photographs[rng.integers(len(photographs))]
    room = min(photograph.shape[:2]) / SIDE
    side = int(SIDE * min(float(np.exp(rng.uniform(*np.log(config.zoom)))), room))
    y, x = (int(rng.integers(length - side, endpoint=True)) for length in photograph.shape[:2])
    piece = photograph[y : y + side, x : x + side]
    if rng.uniform() < 0.5:
        piece = piece[:, ::-1]
    return cv2.resize(piece.astype(np.float64), (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def random_stroke(rng: np.random.Generator, ink: np.ndarray, config: DigitsConfig) -> np.ndarray:
    """The ink (8, 8), 0 to 1, of a digit somewhere in the image, as (32, 32): enlarged, turned and sheared."""
    size = rng.uniform(*config.size)
    turn = np.radians(rng.uniform(-config.rotation, config.rotation))
    shear = rng.uniform(-config.shear, config.shear)
    centre = rng.uniform(size / 2, SIDE - size / 2, 2)
    rotate = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    linear = size / GLYPH * rotate @ np.array([[1.0, shear], [0.0, 1.0]])
    middle = np.full(2, (GLYPH - 1) / 2)
    matrix = np.column_stack([linear, centre - 0.5 - linear @ middle])
    moved = cv2.warpAffine(ink, matrix, (SIDE, SIDE), flags=cv2.INTER_CUBIC)
    return np.clip(1.5 * moved, 0, 1)[:, :, None]  # thin scans are grey; ink is not


def random_cut(rng: np.random.Generator, ink: np.ndarray, config: DigitsConfig) -> np.ndarray:
    """bool (32, 32, 1): a half-plane that keeps a share of the ink's extent."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.indices((SIDE, SIDE))
    along = x * np.cos(angle) + y * np.sin(angle)
    extent = along[ink[:, :, 0] > 0.2]
    if len(extent) == 0:
        return np.zeros((SIDE, SIDE, 1), dtype=bool)
    kept = rng.uniform(*config.fragment_share)
    return (along < extent.min() + kept * (extent.max() - extent.min()))[:, :, None]


def random_colour(rng: np.random.Generator, mean: np.ndarray, config: DigitsConfig) -> np.ndarray:
    """RGB (3,), lighter or darker than `mean`; the other one where the range of colours ends."""
    contrast = rng.uniform(*config.contrast)
    sign = 1 if rng.uniform() < 0.5 else -1
    if not 0 <= mean.mean() + sign * contrast <= 255:
        sign = -sign
    return mean + sign * contrast + rng.uniform(-config.tint, config.tint, 3)


def paint(image: np.ndarray, ink: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """The image (h, w, 3) with a colour over it as far as the ink (h, w, 1) covers it."""
    return image + ink * (colour - image)
