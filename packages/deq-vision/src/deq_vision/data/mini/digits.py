"""Clutter digits: handwritten digits over photographs, with fragments of other digits, 32 x 32 pixels.

The digits are the 1797 of scikit-learn (Alpaydin and Kaynak, UCI, 1998), 8 x 8 pixels of 17 grey levels; the
photographs are those of `deq_core.experiment.data.photographs`. The splits share neither.
"""

import gzip
from dataclasses import dataclass

import cv2
import numpy as np

from deq_core.experiment.data.photographs import locate

SIDE = 32  # pixels of an image
GLYPH = 8  # pixels of a scanned digit
LEVELS = 16.0  # grey level of ink
TRAINING, VALIDATION, TEST = slice(0, 1200), slice(1200, 1400), slice(1400, 1797)  # in the order of the digits


@dataclass(frozen=True, kw_only=True)
class DigitsConfig:
    """Distribution of the images. Lengths are in pixels, colours in grey levels from 0 to 255."""

    size: tuple[float, float] = (21.0, 29.0)
    """Minimum and maximum height of a digit, including the blank border of the scan."""
    rotation: float = 10.0
    """Maximum rotation, degrees."""
    shear: float = 0.1
    """Maximum shear: horizontal shift of a digit's top against its middle, in half heights."""
    contrast: tuple[float, float] = (55.0, 135.0)
    """Minimum and maximum difference between a digit and the mean background, the same in all channels."""
    tint: float = 30.0
    """Maximum further difference in each channel."""
    fragments: tuple[int, int] = (1, 2)
    """Minimum and maximum number of fragments of other digits."""
    fragment_share: tuple[float, float] = (0.3, 0.6)
    """Minimum and maximum share of a digit's extent that a fragment keeps."""
    zoom: tuple[float, float] = (1.0, 4.0)
    """Minimum and maximum number of a photograph's pixels per pixel of the image."""
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
    """(n,), digits from 0 to 9."""

    @staticmethod
    def load(part: slice) -> "Glyphs":
        """Loads a part of scikit-learn's digits, in their order."""
        with gzip.open(locate("sklearn/datasets/data/digits.csv.gz"), "rt") as file:
            table = np.loadtxt(file, delimiter=",", dtype=np.float32)[part]
        return Glyphs(table[:, :-1].reshape(-1, GLYPH, GLYPH) / LEVELS, table[:, -1].astype(np.int64))

    def draw(self, rng: np.random.Generator, label: int) -> np.ndarray:
        """Draws a scan of the digit `label`."""
        return self.ink[rng.choice(np.flatnonzero(self.labels == label))]


def clutter_digit(
    rng: np.random.Generator, label: int, glyphs: Glyphs, photographs: tuple[np.ndarray, ...], config: DigitsConfig
) -> np.ndarray:
    """Draws an image, uint8 RGB (32, 32, 3): background, fragments of other digits, and on top the digit `label`."""
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
    """Draws a crop of a photograph, float64 (32, 32, 3), mirrored with probability 0.5."""
    photograph = photographs[rng.integers(len(photographs))]
    room = min(photograph.shape[:2]) / SIDE
    side = int(SIDE * min(float(np.exp(rng.uniform(*np.log(config.zoom)))), room))
    y, x = (int(rng.integers(length - side, endpoint=True)) for length in photograph.shape[:2])
    piece = photograph[y : y + side, x : x + side]
    if rng.uniform() < 0.5:
        piece = piece[:, ::-1]
    return cv2.resize(piece.astype(np.float64), (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def random_stroke(rng: np.random.Generator, ink: np.ndarray, config: DigitsConfig) -> np.ndarray:
    """Places the ink (8, 8), 0 to 1, of a digit in an image (32, 32, 1), enlarged, rotated and sheared."""
    size = rng.uniform(*config.size)
    turn = np.radians(rng.uniform(-config.rotation, config.rotation))
    shear = rng.uniform(-config.shear, config.shear)
    centre = rng.uniform(size / 2, SIDE - size / 2, 2)
    rotate = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    linear = size / GLYPH * rotate @ np.array([[1.0, shear], [0.0, 1.0]])
    middle = np.full(2, (GLYPH - 1) / 2)
    matrix = np.column_stack([linear, centre - 0.5 - linear @ middle])
    moved = cv2.warpAffine(ink, matrix, (SIDE, SIDE), flags=cv2.INTER_CUBIC)
    return np.clip(1.5 * moved, 0, 1)[:, :, None]  # thin strokes are grey in the scans; make them solid


def random_cut(rng: np.random.Generator, ink: np.ndarray, config: DigitsConfig) -> np.ndarray:
    """Draws a half-plane, bool (32, 32, 1), that contains a share of the ink's extent."""
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.indices((SIDE, SIDE))
    along = x * np.cos(angle) + y * np.sin(angle)
    extent = along[ink[:, :, 0] > 0.2]
    if len(extent) == 0:
        return np.zeros((SIDE, SIDE, 1), dtype=bool)
    kept = rng.uniform(*config.fragment_share)
    return (along < extent.min() + kept * (extent.max() - extent.min()))[:, :, None]


def random_colour(rng: np.random.Generator, mean: np.ndarray, config: DigitsConfig) -> np.ndarray:
    """Draws a colour, RGB (3,), lighter or darker than `mean`, whichever stays in range."""
    contrast = rng.uniform(*config.contrast)
    sign = 1 if rng.uniform() < 0.5 else -1
    if not 0 <= mean.mean() + sign * contrast <= 255:
        sign = -sign
    return mean + sign * contrast + rng.uniform(-config.tint, config.tint, 3)


def paint(image: np.ndarray, ink: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Blends a colour over the image (h, w, 3) with the ink (h, w, 1) as opacity."""
    return image + ink * (colour - image)
