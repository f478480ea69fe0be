"""Augmentation of RAFT and DEQ-Flow: colours, erased patches, then scale, stretch, flips and crop of frames and flow.

Each result is a function of the sample and a generator.
"""

from dataclasses import dataclass, field, replace

import cv2
import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from deq_flow.data.colour import ColourConfig, jitter_pair
from deq_flow.data.samples import FlowSample


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Strengths and probabilities of the augmentation. The defaults are the released ones for dense sets."""

    crop: tuple[int, int]
    """Height and width of the crop, pixels."""
    still_chance: float = 0.0
    """Probability that the pair becomes image 1 twice, with zero flow; colours and erased patches differ as usual."""
    colour: ColourConfig = field(default_factory=ColourConfig)
    eraser_chance: float = 0.5
    """Probability that one or two patches of image 2 are filled with its mean colour."""
    eraser_size: tuple[int, int] = (50, 100)
    """Range of the side of a patch, pixels; the upper bound is exclusive."""
    scale: tuple[float, float] = (-0.2, 0.5)
    """Range of the base-2 logarithm of the scale."""
    scale_chance: float = 0.8
    """Probability of scaling; frames smaller than the crop are always scaled."""
    stretch: float = 0.2
    """Greatest base-2 logarithm of the additional scale of each axis."""
    stretch_chance: float = 0.8
    flip_chance: tuple[float, float] = (0.5, 0.1)
    """Probabilities of a horizontal and of a vertical flip."""
    margin: int = 8
    """Number of pixels by which scaled frames are at least larger than the crop."""
    overdraw: tuple[int, int] = (0, 0)
    """Number of pixels by which random crops may exceed the bottom edge, and the left and right edges, before they are
    moved back inside; this samples the edges more often. The release has (20, 50) for sparse sets."""
    sparse: bool = False
    """Whether scaling moves each known vector to the nearest pixel instead of interpolating the flow."""
    released_scatter: bool = False
    """Whether sparse vectors are moved as in the release: pixel x moves to scale * x, although in the frames it moves
    to scale * (x + 0.5) - 0.5; the first row and column are dropped; and the last of several vectors for a pixel is
    kept."""

    def __post_init__(self) -> None:
        if min(self.crop) < 1:
            raise ValueError(f"crop must be at least 1 pixel high and wide, got {self.crop}")
        if not 0 < self.eraser_size[0] < self.eraser_size[1]:
            raise ValueError(f"eraser_size must be 0 < least < bound, got {self.eraser_size}")
        if self.scale[0] > self.scale[1] or self.stretch < 0 or self.margin < 0 or min(self.overdraw) < 0:
            raise ValueError(
                "scale must be (least, greatest), and stretch, margin and overdraw not negative, got "
                f"{self.scale}, {self.stretch}, {self.margin} and {self.overdraw}"
            )
        if self.released_scatter and not self.sparse:
            raise ValueError("released_scatter says how sparse vectors are moved: it needs sparse")
        chances = (self.still_chance, self.eraser_chance, self.scale_chance, self.stretch_chance, *self.flip_chance)
        for chance in chances:
            if not 0 <= chance <= 1:
                raise ValueError(f"chances must be in [0, 1], got {chance} in {self}")


@dataclass(frozen=True)
class Geometry:
    """A geometric transform: scale, then flips, then crop."""

    scale: tuple[float, float] | None
    """Scale of x and y; None is without scaling."""
    flip: tuple[bool, bool]
    """Whether to flip horizontally, and vertically."""
    corner: tuple[int, int]
    """(y, x) of the crop's first pixel in the scaled and flipped frame."""


def augment(sample: FlowSample, config: AugmentConfig, rng: np.random.Generator) -> FlowSample:
    """A randomly augmented sample of size `config.crop`; its `occluded` and `invalid` are None."""
    if config.still_chance and rng.uniform() < config.still_chance:
        nothing, everywhere = torch.zeros_like(sample.flow), torch.ones_like(sample.valid)
        sample = replace(sample, image2=sample.image1, flow=nothing, valid=everywhere)
    image1, image2 = jitter_pair(pixels(sample.image1), pixels(sample.image2), rng, config.colour)
    image2 = erase(image2, config, rng)
    coloured = replace(sample, image1=planes(image1), image2=planes(image2))
    return transform(coloured, random_geometry(coloured, config, rng), config)


def erase(image: np.ndarray, config: AugmentConfig, rng: np.random.Generator) -> np.ndarray:
    """The image, uint8 (h, w, 3), with `eraser_chance` occluded by one or two patches of its mean colour."""
    if rng.uniform() >= config.eraser_chance:
        return image
    colour = rearrange(image, "h w c -> (h w) c").mean(axis=0).astype(np.uint8)
    patches = []
    for _ in range(rng.integers(1, 2, endpoint=True)):
        x, y = int(rng.integers(image.shape[1])), int(rng.integers(image.shape[0]))
        width, height = rng.integers(*config.eraser_size, size=2).tolist()
        patches.append((x, y, width, height))
    return paint(image, colour, patches)


def paint(image: np.ndarray, colour: np.ndarray, patches: list[tuple[int, int, int, int]]) -> np.ndarray:
    """A copy of the image with patches (x, y, width, height) of one colour, clipped at its edges."""
    painted = image.copy()
    for x, y, width, height in patches:
        painted[y : y + height, x : x + width] = colour
    return painted


def random_geometry(sample: FlowSample, config: AugmentConfig, rng: np.random.Generator) -> Geometry:
    """Scale, flips and crop for one sample."""
    h, w = sample.valid.shape
    least = max((length + config.margin) / size for length, size in zip(config.crop, (h, w), strict=True))
    scale = np.full(2, 2.0 ** rng.uniform(*config.scale))
    if rng.uniform() < config.stretch_chance:
        scale *= 2.0 ** rng.uniform(-config.stretch, config.stretch, 2)
    fx, fy = np.maximum(scale, least).tolist()
    small = h < config.crop[0] or w < config.crop[1]
    scaled = rng.uniform() < config.scale_chance or small
    if scaled:
        h, w = round(h * fy), round(w * fx)
    flip = (bool(rng.uniform() < config.flip_chance[0]), bool(rng.uniform() < config.flip_chance[1]))
    room_y, room_x = h - config.crop[0], w - config.crop[1]
    y = int(rng.integers(0, room_y + config.overdraw[0], endpoint=True).clip(0, room_y))
    x = int(rng.integers(-config.overdraw[1], room_x + config.overdraw[1], endpoint=True).clip(0, room_x))
    return Geometry((fx, fy) if scaled else None, flip, (y, x))


def transform(sample: FlowSample, geometry: Geometry, config: AugmentConfig) -> FlowSample:
    """The sample scaled, flipped and cropped; flow vectors are scaled and flipped with it.

    Raises:
        ValueError: the crop does not fit into the scaled sample.
    """
    images = [pixels(sample.image1), pixels(sample.image2)]
    flow, valid = rearrange(sample.flow, "xy h w -> h w xy").numpy(), sample.valid.numpy()
    if geometry.scale is not None:
        fx, fy = geometry.scale
        images = [cv2.resize(image, None, fx=fx, fy=fy, interpolation=cv2.INTER_LINEAR) for image in images]
        if config.sparse:
            flow, valid = scatter_flow(flow, valid, (fx, fy), released=config.released_scatter)
        else:
            flow, valid = resize_flow(flow, valid, (fx, fy))
    arrays = [*images, np.where(valid[:, :, None], flow, 0), valid]
    signs = np.ones(2, dtype=np.float32)
    for axis, flipped in ((1, geometry.flip[0]), (0, geometry.flip[1])):  # axis 1 is x, the first component
        if flipped:
            arrays = [np.flip(array, axis) for array in arrays]
            signs[1 - axis] = -1
    (y, x), (height, width) = geometry.corner, config.crop
    if y + height > len(arrays[0]) or x + width > arrays[0].shape[1]:
        raise ValueError(
            f"{sample.name}: a crop of {config.crop} at {geometry.corner} does not fit into "
            f"{arrays[0].shape[:2]} pixels; take a smaller crop"
        )
    image1, image2, flow, valid = (array[y : y + height, x : x + width] for array in arrays)
    moved = planes((flow * signs).astype(np.float32))
    return FlowSample(planes(image1), planes(image2), moved, torch.from_numpy(valid.copy()), sample.name)


def resize_flow(flow: np.ndarray, valid: np.ndarray, scale: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """Dense flow (h, w, 2) and validity (h, w) resized by `scale` (x, y); valid where all interpolated pixels are."""
    fx, fy = scale
    if valid.all():
        resized = cv2.resize(flow, None, fx=fx, fy=fy, interpolation=cv2.INTER_LINEAR)
        return resized * np.array(scale), np.ones(resized.shape[:2], dtype=bool)
    known = np.where(valid[:, :, None], flow, 0).astype(np.float32)
    resized = cv2.resize(known, None, fx=fx, fy=fy, interpolation=cv2.INTER_LINEAR)
    share = cv2.resize(valid.astype(np.float32), None, fx=fx, fy=fy, interpolation=cv2.INTER_LINEAR)
    return resized * np.array(scale), share > 1 - 1e-4


def scatter_flow(
    flow: np.ndarray, valid: np.ndarray, scale: tuple[float, float], *, released: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Sparse flow (h, w, 2) and validity (h, w) scaled by `scale` (x, y): each known vector moves to the nearest pixel.

    Of several vectors for a pixel, the nearest one is kept. `released` is `AugmentConfig.released_scatter`.
    """
    factors = np.array(scale)
    size = np.array([round(flow.shape[1] * scale[0]), round(flow.shape[0] * scale[1])])
    y, x = np.nonzero(valid)
    source = np.stack([x, y], axis=1)
    shift = 0.0 if released else 0.5  # from a pixel's edge, about which frames are scaled, to its centre
    exact = (source + shift) * factors - shift
    target = np.round(exact).astype(np.int64)
    inside = ((target >= (1 if released else 0)) & (target < size)).all(axis=1)
    source, target, exact = source[inside], target[inside], exact[inside]
    distance = np.zeros(len(target)) if released else np.square(exact - target).sum(axis=1)
    order = np.argsort(-distance, kind="stable")  # nearest last, as the last write to a pixel counts
    (x, y), (from_x, from_y) = target[order].T, source[order].T
    moved = np.zeros((size[1], size[0], 2), dtype=np.float32)
    known = np.zeros((size[1], size[0]), dtype=bool)
    moved[y, x] = flow[from_y, from_x] * factors
    known[y, x] = True
    return moved, known


def pixels(image: Tensor) -> np.ndarray:
    """uint8 (h, w, 3) of an image (3, h, w)."""
    return np.ascontiguousarray(rearrange(image, "c h w -> h w c").numpy())


def planes(array: np.ndarray) -> Tensor:
    """(c, h, w) of an array (h, w, c)."""
    return torch.from_numpy(np.ascontiguousarray(rearrange(array, "h w c -> c h w")))
