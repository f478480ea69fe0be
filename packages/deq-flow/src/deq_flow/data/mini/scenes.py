"""Scenes of moving layers cut from photographs, with exact flow and occlusions."""

from dataclasses import dataclass

import cv2
import numpy as np

from deq_flow.data.mini.motion import Motion, Waves

TEXELS = 2  # texels per pixel of a texture, so that interpolation loses no detail
CANDIDATES = 4  # number of crops to choose the richest texture from; blank ones show no motion


@dataclass(frozen=True, kw_only=True)
class SceneConfig:
    """Objects and motions of a scene; lengths are in pixels, times in frames."""

    objects: tuple[int, int] = (1, 4)
    """Least and greatest number of objects."""
    radius: tuple[float, float] = (9.0, 28.0)
    """Least and greatest mean radius of an object."""
    zoom: tuple[float, float] = (1.0, 4.0)
    """Least and greatest number of a photograph's pixels for one pixel of a scene; small photographs limit it."""
    background_speed: float = 4.5
    """Mean speed of the background."""
    object_speed: float = 6.0
    """Mean speed of an object in addition to its share of the background's motion."""
    max_speed: float = 16.0
    """Greatest speed of a layer's centre."""
    rotation: float = 2.0
    """Standard deviation of the background's rotation, degrees per frame; objects rotate twice as fast."""
    stretch: float = 0.02
    """Standard deviation of the growth per frame along each of two axes; objects grow twice as fast."""
    ripple: float = 1.2
    """Greatest amplitude of each of the two waves of the non-rigid motion."""
    wavelength: tuple[float, float] = (40.0, 100.0)
    """Least and greatest wavelength of these waves; short ones get less amplitude."""
    tint: float = 0.15
    """Greatest relative change of each colour channel of a layer."""

    def __post_init__(self) -> None:
        low, high = self.objects
        if not 0 <= low <= high:
            raise ValueError(f"objects must be 0 <= least <= most, got {self.objects}")
        for name in ("radius", "zoom", "wavelength"):
            low, high = getattr(self, name)
            if not 0 < low <= high:
                raise ValueError(f"{name} must be 0 < least <= greatest, got {(low, high)}")
        for name in ("background_speed", "object_speed", "max_speed", "rotation", "stretch", "ripple", "tint"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")


@dataclass(frozen=True)
class Outline:
    """A star-shaped region with a smooth edge: radius times 1 + sum of a_m cos(m angle + phase_m), m = 2, 3, ..."""

    centre: np.ndarray
    radius: float
    amplitude: np.ndarray
    phase: np.ndarray

    def coverage(self, points: np.ndarray) -> np.ndarray:
        """Share, 0 to 1, of pixels at `points` (2, ...) inside; it rises over one pixel across the edge."""
        x, y = points[0] - self.centre[0], points[1] - self.centre[1]
        distance, angle = np.hypot(x, y), np.arctan2(y, x)
        edge, slope = np.ones_like(angle), np.zeros_like(angle)
        for order, (amplitude, phase) in enumerate(zip(self.amplitude, self.phase, strict=True), start=2):
            edge += amplitude * np.cos(order * angle + phase)
            slope -= amplitude * order * np.sin(order * angle + phase)
        depth = (self.radius * edge - distance) / np.sqrt(1 + (slope / edge) ** 2)
        return np.clip(0.5 + depth, 0, 1)


@dataclass(frozen=True)
class Layer:
    """A textured plane, or a piece of one, and its motion."""

    texture: np.ndarray
    """uint8 RGB, `TEXELS` texels per pixel, centred at the motion's centre; reflected beyond its border."""
    motion: Motion
    outline: Outline | None
    """Region of the plane; None is all of it."""

    def coverage(self, plane: np.ndarray) -> np.ndarray:
        """Share, 0 to 1, that this layer covers of pixels at points (2, ...) of its plane."""
        return np.ones(plane.shape[1:]) if self.outline is None else self.outline.coverage(plane)

    def colour(self, plane: np.ndarray) -> np.ndarray:
        """RGB (h, w, 3) at points (2, h, w) of the plane."""
        height, width = self.texture.shape[:2]
        x = (plane[0] - self.motion.centre[0]) * TEXELS + (width - 1) / 2
        y = (plane[1] - self.motion.centre[1]) * TEXELS + (height - 1) / 2
        return cv2.remap(
            self.texture,
            x.astype(np.float32),
            y.astype(np.float32),
            interpolation=cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REFLECT_101,
        )


@dataclass(frozen=True)
class View:
    """A scene at one time."""

    image: np.ndarray
    """uint8 RGB (h, w, 3)."""
    top: np.ndarray
    """(h, w), index of the visible layer at each pixel: the last that covers at least half of it."""
    plane: np.ndarray
    """float64 (2, h, w), the point of that layer's plane at each pixel."""


def render(layers: tuple[Layer, ...], time: float, size: tuple[int, int]) -> View:
    """The frame of `size` (h, w) of layers, back to front, at `time`."""
    grid = pixel_grid(size)
    image = np.zeros((*size, 3))
    top = np.zeros(size, dtype=np.int64)
    seen = np.zeros_like(grid)
    for index, layer in enumerate(layers):
        plane = layer.motion.to_plane(grid, time)
        coverage = layer.coverage(plane)
        image += coverage[:, :, None] * (layer.colour(plane) - image)
        front = coverage >= 0.5
        top = np.where(front, index, top)
        seen = np.where(front, plane, seen)
    return View(np.rint(image).clip(0, 255).astype(np.uint8), top, seen)


def exact_flow(layers: tuple[Layer, ...], view: View, time: float) -> tuple[np.ndarray, np.ndarray]:
    """Flow float32 (2, h, w), pixels, from a view to the frame at `time`, and occlusions bool (h, w).

    A pixel is occluded if its surface point is outside that frame, or behind a layer that covers at least half of it.
    """
    height, width = view.top.shape
    target = np.empty_like(view.plane)
    occluded = np.zeros((height, width), dtype=bool)
    for index, layer in enumerate(layers):
        mine = view.top == index
        there = layer.motion.to_frame(view.plane[:, mine], time)
        hidden = (there[0] < 0) | (there[0] > width - 1) | (there[1] < 0) | (there[1] > height - 1)
        for above in layers[index + 1 :]:
            hidden |= above.coverage(above.motion.to_plane(there, time)) >= 0.5
        target[:, mine] = there
        occluded[mine] = hidden
    return (target - pixel_grid((height, width))).astype(np.float32), occluded


def random_scene(
    rng: np.random.Generator,
    photographs: tuple[np.ndarray, ...],
    size: tuple[int, int],
    config: SceneConfig,
    *,
    pace: float = 1.0,
) -> tuple[Layer, ...]:
    """A background and objects of random photographs, shapes and motions; `pace` multiplies every speed."""
    height, width = size
    drift = random_velocity(rng, config.background_speed, config.max_speed)
    middle = np.array([width - 1, height - 1]) / 2
    background = random_texture(rng, photographs, (1.4 * height, 1.4 * width), config)
    layers = [Layer(background, random_motion(rng, middle, drift, config, pace=pace), None)]
    for _ in range(rng.integers(config.objects[0], config.objects[1], endpoint=True)):
        centre = rng.uniform([0, 0], [width - 1, height - 1])
        radius = np.exp(rng.uniform(*np.log(config.radius)))
        velocity = rng.uniform() * drift + random_velocity(rng, config.object_speed, config.max_speed)
        motion = random_motion(rng, centre, limited(velocity, config.max_speed), config, pace=pace, freedom=2.0)
        amplitude = rng.uniform(0, [0.3, 0.15, 0.1, 0.06])
        outline = Outline(centre, radius, amplitude, rng.uniform(0, 2 * np.pi, 4))
        texture = random_texture(rng, photographs, (2.5 * radius, 2.5 * radius), config)
        layers.append(Layer(texture, motion, outline))
    return tuple(layers)


def random_motion(
    rng: np.random.Generator,
    centre: np.ndarray,
    velocity: np.ndarray,
    config: SceneConfig,
    *,
    pace: float,
    freedom: float = 1.0,
) -> Motion:
    """A motion through `centre` at time 0 with `velocity`; `freedom` multiplies its rotation and growth."""
    count = 2
    length = rng.uniform(*config.wavelength, count)
    angle = rng.uniform(0, 2 * np.pi, (2, count))
    amplitude = np.minimum(rng.uniform(0, config.ripple, count), 0.2 * length / (2 * np.pi))  # steepness at most 0.4
    waves = Waves(
        amplitude=(amplitude * np.stack([np.cos(angle[0]), np.sin(angle[0])])).T,
        wavevector=(2 * np.pi / length * np.stack([np.cos(angle[1]), np.sin(angle[1])])).T,
        phase=rng.uniform(0, 2 * np.pi, count),
        rate=pace * rng.uniform(np.pi / 4, np.pi, count),
    )
    along, across = np.clip(rng.normal(0, config.stretch, 2), -2 * config.stretch, 2 * config.stretch)
    turn = np.radians(config.rotation) * np.clip(rng.normal(), -2, 2)
    return Motion(
        centre=centre,
        velocity=pace * velocity,
        acceleration=0.1 * pace * np.linalg.norm(velocity) * rng.uniform(-1, 1, 2),
        rotation=float(pace * freedom * turn),
        stretch=(float(pace * freedom * along), float(pace * freedom * across)),
        axis=float(rng.uniform(0, np.pi)),
        waves=waves,
    )


def random_velocity(rng: np.random.Generator, mean: float, greatest: float) -> np.ndarray:
    """Velocity (2,) of uniform direction, with a speed from a gamma distribution of shape 2."""
    angle = rng.uniform(0, 2 * np.pi)
    return limited(rng.gamma(2.0, mean / 2) * np.array([np.cos(angle), np.sin(angle)]), greatest)


def limited(velocity: np.ndarray, greatest: float) -> np.ndarray:
    """The velocity, with its speed limited to `greatest`."""
    speed = np.linalg.norm(velocity)
    return velocity if speed <= greatest else velocity * (greatest / speed)


def random_texture(
    rng: np.random.Generator, photographs: tuple[np.ndarray, ...], extent: tuple[float, float], config: SceneConfig
) -> np.ndarray:
    """A texture for `extent` (h, w) pixels of a scene: the richest of a few crops of a random photograph."""
    photograph = photographs[rng.integers(len(photographs))]
    room = min(photograph.shape[0] / extent[0], photograph.shape[1] / extent[1])
    zoom = min(float(np.exp(rng.uniform(*np.log(config.zoom)))), room)
    height, width = (int(zoom * length) for length in extent)
    crops = []
    for _ in range(CANDIDATES):
        y = rng.integers(photograph.shape[0] - height, endpoint=True)
        x = rng.integers(photograph.shape[1] - width, endpoint=True)
        crops.append(photograph[y : y + height, x : x + width])
    crop = max(crops, key=lambda pixels: float(pixels[::4, ::4].std(axis=(0, 1)).sum()))
    if rng.uniform() < 0.5:
        crop = crop[:, ::-1]
    crop = np.clip(crop * (1 + rng.uniform(-config.tint, config.tint, 3)), 0, 255).astype(np.uint8)
    shape = (round(extent[1] * TEXELS), round(extent[0] * TEXELS))
    method = cv2.INTER_AREA if zoom >= TEXELS else cv2.INTER_CUBIC
    texture = cv2.resize(crop, shape, interpolation=method)
    return cv2.GaussianBlur(texture, (0, 0), TEXELS / 2)  # half a pixel of the scene, against aliasing


def pixel_grid(size: tuple[int, int]) -> np.ndarray:
    """float64 (2, h, w): x and y of every pixel centre."""
    y, x = np.indices(size, dtype=np.float64)
    return np.stack([x, y])
