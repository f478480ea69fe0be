"""Colour jitter: random brightness, contrast, saturation and hue, in random order."""

from dataclasses import dataclass

import cv2
import numpy as np

LUMINANCE = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R 601, as in Pillow and torchvision


@dataclass(frozen=True, kw_only=True)
class ColourConfig:
    """Ranges of the jitter; with all zero, colours do not change.

    The defaults are those of RAFT (Teed and Deng, ECCV 2020) and DEQ-Flow for dense sets.
    """

    brightness: float = 0.4
    """Factors are drawn from 1 - this to 1 + this, and not below 0; likewise for contrast and saturation."""
    contrast: float = 0.4
    saturation: float = 0.4
    hue: float = 0.5 / 3.14
    """Greatest shift of the hue in either direction; 0.5 is half of the colour circle."""
    asymmetric_chance: float = 0.2
    """Probability that the two frames change independently of each other."""

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if not 0 <= self.hue <= 0.5:
            raise ValueError(f"hue must be in [0, 0.5], got {self.hue}")
        if not 0 <= self.asymmetric_chance <= 1:
            raise ValueError(f"asymmetric_chance must be a probability, got {self.asymmetric_chance}")


@dataclass(frozen=True)
class Jitter:
    """A change of colours."""

    brightness: float
    contrast: float
    saturation: float
    hue: float
    order: tuple[int, ...] = (0, 1, 2, 3)
    """Order of the four changes above."""

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """The changed image, uint8 RGB (h, w, 3); contrast is about the mean grey of the whole image."""
        values = image.astype(np.float32)
        changes = (self.brighten, self.spread, self.saturate, self.turn)
        for index in self.order:
            values = changes[index](values).clip(0, 255)
        return np.rint(values).astype(np.uint8)

    def brighten(self, values: np.ndarray) -> np.ndarray:
        """Scaled towards or away from black."""
        return values * self.brightness

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Scaled about the mean grey."""
        mean = np.rint((values @ LUMINANCE).mean())
        return mean + self.contrast * (values - mean)

    def saturate(self, values: np.ndarray) -> np.ndarray:
        """Scaled about each pixel's own grey."""
        grey = (values @ LUMINANCE)[:, :, None]
        return grey + self.saturation * (values - grey)

    def turn(self, values: np.ndarray) -> np.ndarray:
        """All hues shifted along the colour circle."""
        hsv = cv2.cvtColor(values / 255, cv2.COLOR_RGB2HSV)
        hsv[:, :, 0] = (hsv[:, :, 0] + 360 * self.hue) % 360
        return 255 * cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)


def random_jitter(rng: np.random.Generator, config: ColourConfig) -> Jitter:
    """A change within the ranges of `config`."""

    def factor(width: float) -> float:
        return rng.uniform(max(0.0, 1 - width), 1 + width)

    return Jitter(
        brightness=factor(config.brightness),
        contrast=factor(config.contrast),
        saturation=factor(config.saturation),
        hue=rng.uniform(-config.hue, config.hue),
        order=tuple(rng.permutation(4).tolist()),
    )


def jitter_pair(
    image1: np.ndarray, image2: np.ndarray, rng: np.random.Generator, config: ColourConfig
) -> tuple[np.ndarray, np.ndarray]:
    """Both frames, uint8 RGB (h, w, 3), with the same jitter, or independent ones with `asymmetric_chance`."""
    if rng.uniform() < config.asymmetric_chance:
        return random_jitter(rng, config)(image1), random_jitter(rng, config)(image2)
    both = random_jitter(rng, config)(np.concatenate([image1, image2]))
    return both[: len(image1)], both[len(image1) :]
