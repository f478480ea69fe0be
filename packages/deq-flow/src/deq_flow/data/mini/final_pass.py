"""The "final" pass of an animated film: effects of camera and atmosphere on a clean rendering."""

from dataclasses import dataclass

import cv2
import numpy as np

from deq_flow.data.mini.scenes import pixel_grid

TAPS = 7  # number of times over the exposure that motion blur averages


@dataclass(frozen=True, kw_only=True)
class FinalPassConfig:
    """Strength of each effect; with all zero the frame does not change."""

    shutter: float = 0.5
    """Exposure time as a share of the time between frames: the length of the motion blur."""
    defocus: float = 0.6
    """Standard deviation of the lens blur, pixels."""
    fog: float = 0.3
    """Greatest share of fog in the colour of the background; nearer layers have less. Drawn for each scene."""
    exposure: float = 0.06
    """Standard deviation of the logarithm of a frame's brightness."""
    noise: float = 3.0
    """Standard deviation of the noise, grey levels."""

    def __post_init__(self) -> None:
        for name in ("shutter", "defocus", "fog", "exposure", "noise"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.fog > 1:
            raise ValueError(f"fog must be at most 1, got {self.fog}")


@dataclass(frozen=True)
class Fog:
    """The fog of a scene."""

    density: float
    """Share of fog in the colour of the background, 0 to 1."""
    colour: np.ndarray
    """RGB (3,), 0 to 255."""


def random_fog(rng: np.random.Generator, config: FinalPassConfig) -> Fog:
    """Bright, almost grey fog of random density."""
    return Fog(rng.uniform(0, config.fog), rng.uniform(150, 230) + rng.uniform(-10, 10, 3))


def final_pass(
    image: np.ndarray,
    flow: np.ndarray,
    nearness: np.ndarray,
    fog: Fog,
    rng: np.random.Generator,
    config: FinalPassConfig,
) -> np.ndarray:
    """A frame with motion blur, fog, defocus, changed brightness and noise, in that order.

    Args:
        image: uint8 RGB (h, w, 3), the clean frame.
        flow: (2, h, w), pixels, its motion to the next frame.
        nearness: (h, w), from 0 at the background to 1 at the camera.
        fog: fog of the scene.
        rng: generator of this frame's brightness and noise.
        config: strengths of the effects.

    Returns:
        uint8 RGB (h, w, 3).
    """
    light = motion_blur(image.astype(np.float32), flow, config.shutter)
    share = (fog.density * (1 - nearness))[:, :, None]
    light = light + share * (fog.colour - light)
    if config.defocus > 0:
        light = cv2.GaussianBlur(light, (0, 0), config.defocus)
    light = light * np.exp(rng.normal(0, config.exposure)) + rng.normal(0, config.noise, light.shape)
    return np.rint(light).clip(0, 255).astype(np.uint8)


def motion_blur(image: np.ndarray, flow: np.ndarray, shutter: float) -> np.ndarray:
    """The mean of a float32 image (h, w, 3) over its motion along the flow, from -`shutter` / 2 to `shutter` / 2."""
    grid = pixel_grid((image.shape[0], image.shape[1]))
    total = np.zeros_like(image)
    for time in np.linspace(-shutter / 2, shutter / 2, TAPS):
        x, y = (grid - time * flow).astype(np.float32)
        total += cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return total / TAPS
