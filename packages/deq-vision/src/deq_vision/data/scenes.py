"""Augmentation of images together with their masks or boxes: scaling, mirroring, padding, cropping."""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from deq_vision.data.samples import IGNORE_INDEX, AnnotatedImage, Objects, SegmentedImage
from deq_vision.data.transforms import check_chance, flipped, resize

LEAST_SHARE = 0.4


@dataclass(frozen=True, kw_only=True)
class SceneAugment:
    """Augmentation of scenes. The defaults are those that MDEQ was trained with on Cityscapes."""

    long_side: int = 2048
    """Length of an image's longer side before the random scale, pixels."""
    short_side: int | None = None
    """Maximum length of the shorter side before the random scale, which may shorten both; None for no limit."""
    scale: tuple[float, float] = (0.5, 2.1)
    """Minimum and maximum random scale."""
    scale_step: float = 0.1
    """Spacing of the random scales; 0 for a continuous distribution."""
    crop: tuple[int, int] | None = (512, 1024)
    """Height and width of the crop, pixels; smaller images are padded with black below and to the right. None does not
    crop."""
    flip_chance: float = 0.5
    smooth: bool = False
    """Whether downscaling averages pixels (as Pillow does), as suits photographs, and takes labels at pixel
    centres. The release interpolates images bilinearly and takes labels up to half a pixel further left and up."""
    least_share: float = LEAST_SHARE
    """Minimum share of an object's box inside the crop; objects with less are dropped."""

    def __post_init__(self) -> None:
        sides = [self.long_side, *([] if self.short_side is None else [self.short_side]), *(self.crop or ())]
        if min(sides) < 1:
            raise ValueError(f"sides and crop must be at least 1 pixel, got {sides}")
        if not 0 < self.scale[0] <= self.scale[1] or self.scale_step < 0:
            raise ValueError(
                "scale must be 0 < least <= greatest and scale_step not negative, "
                f"got {self.scale} and {self.scale_step}"
            )
        if not 0 <= self.least_share <= 1:
            raise ValueError(f"least_share must be in [0, 1], got {self.least_share}")
        check_chance(self.flip_chance)


@dataclass(frozen=True)
class Placement:
    """A geometric transform: scaling, mirroring, padding, then cropping."""

    scaled: tuple[int, int]
    """(h, w) after scaling."""
    flip: bool
    corner: tuple[int, int]
    """(y, x) of the crop's first pixel."""
    size: tuple[int, int]
    """(h, w) of the crop."""
    smooth: bool = False
    """See `SceneAugment`."""


@dataclass(frozen=True)
class AugmentSegmented:
    """Augments images together with their masks."""

    config: SceneAugment

    def __call__(self, sample: SegmentedImage, _: int, rng: np.random.Generator) -> SegmentedImage:
        placement = random_placement(tuple(sample.labels.shape), self.config, rng)
        return SegmentedImage(place_image(sample.image, placement), place_labels(sample.labels, placement), sample.name)


@dataclass(frozen=True)
class AugmentAnnotated:
    """Augments images together with their boxes."""

    config: SceneAugment

    def __call__(self, sample: AnnotatedImage, _: int, rng: np.random.Generator) -> AnnotatedImage:
        size = tuple(sample.image.shape[1:])
        placement = random_placement(size, self.config, rng)
        objects = place_objects(sample.objects, size, placement, self.config.least_share)
        return AnnotatedImage(place_image(sample.image, placement), objects, sample.name)


def random_placement(size: tuple[int, ...], config: SceneAugment, rng: np.random.Generator) -> Placement:
    """Draws a transform of an image (h, w)."""
    scaled = fitted(size, config, random_scale(config, rng))
    crop = scaled if config.crop is None else config.crop
    room = [max(0, length - kept) for length, kept in zip(scaled, crop, strict=True)]
    y, x = (int(rng.integers(space, endpoint=True)) for space in room)
    return Placement(scaled, bool(rng.uniform() < config.flip_chance), (y, x), crop, config.smooth)


def random_scale(config: SceneAugment, rng: np.random.Generator) -> float:
    low, high = config.scale
    if config.scale_step == 0:
        return float(rng.uniform(low, high))
    steps = int((high - low) / config.scale_step + 1e-6)
    return low + config.scale_step * int(rng.integers(steps, endpoint=True))


def fitted(size: tuple[int, ...], config: SceneAugment, scale: float = 1.0) -> tuple[int, int]:
    """Size (h, w) of an image (h, w) resized to the sides of `config`, times `scale`.

    Each side is rounded by itself. MDEQ's release rounds the shorter side after the longer one, which gives frames of
    Cityscapes one more row at the scales 0.6, 1.1, 1.6 and 2.1.
    """
    factor = config.long_side / max(size)
    if config.short_side is not None:
        factor = min(factor, config.short_side / min(size))
    height, width = (max(1, int(factor * scale * length + 0.5)) for length in size)
    return height, width


def fitted_to(size: tuple[int, ...], sides: tuple[int, int] | None) -> tuple[int, int]:
    """Size (h, w) of an image (h, w) resized to fit within sides (longer, shorter); unchanged if these are None."""
    if sides is None:
        return size[0], size[1]
    return fitted(size, SceneAugment(long_side=sides[0], short_side=sides[1], crop=None))


def fit_segmented(sample: SegmentedImage, sides: tuple[int, int]) -> SegmentedImage:
    """Resizes an image and its mask to fit within sides (longer, shorter), and keeps the original mask as `whole`."""
    size = fitted_to(tuple(sample.labels.shape), sides)
    placement = Placement(size, flip=False, corner=(0, 0), size=size, smooth=True)
    image, labels = place_image(sample.image, placement), place_labels(sample.labels, placement)
    return SegmentedImage(image, labels, sample.name, whole=None if size == sample.labels.shape else sample.labels)


def require_sides(sides: tuple[int, int] | None) -> None:
    """Raises ValueError unless `sides` are a longer and a shorter side, or None."""
    if sides is not None and not sides[0] >= sides[1] >= 1:
        raise ValueError(f"test_sides must be longer >= shorter >= 1, got {sides}")


def place_image(image: Tensor, placement: Placement) -> Tensor:
    """Transforms an image to uint8 (3, h, w) of the placement's size, padded with black; see `SceneAugment.smooth`."""
    scaled = resize(image, placement.scaled, smooth=placement.smooth)
    return cut(flipped(scaled, placement.flip), placement, fill=0)


def place_labels(labels: Tensor, placement: Placement) -> Tensor:
    """Transforms a mask to uint8 (h, w) of the placement's size, padded with `IGNORE_INDEX`."""
    nearest = cv2.INTER_NEAREST_EXACT if placement.smooth else cv2.INTER_NEAREST
    scaled = cv2.resize(labels.numpy(), placement.scaled[::-1], interpolation=nearest)
    return cut(flipped(torch.from_numpy(scaled)[None], placement.flip), placement, fill=IGNORE_INDEX)[0]


def cut(values: Tensor, placement: Placement, *, fill: int) -> Tensor:
    """Crops (c, h, w), padding below and to the right with `fill`."""
    (y, x), (height, width) = placement.corner, placement.size
    part = values[:, y : y + height, x : x + width]
    missing = (0, width - part.shape[2], 0, height - part.shape[1])
    return torch.nn.functional.pad(part, missing, value=fill).contiguous()


def place_objects(objects: Objects, size: tuple[int, ...], placement: Placement, least_share: float) -> Objects:
    """Transforms the objects of an image (h, w): clips boxes to the crop, drops those with less than a share left."""
    (h, w), (height, width) = size, placement.scaled
    left, top, right, bottom = (objects.boxes * torch.tensor([width / w, height / h] * 2)).unbind(dim=1)
    if placement.flip:
        left, right = width - right, width - left
    y, x = placement.corner
    moved = torch.stack([left - x, top - y, right - x, bottom - y], dim=1)
    limits = torch.tensor([*placement.size[::-1]] * 2, dtype=moved.dtype)
    clipped = moved.clamp(min=0).minimum(limits)
    share = extent(clipped) / extent(moved)
    kept = (share >= least_share) & (clipped[:, 2:] > clipped[:, :2]).all(dim=1)
    return Objects(clipped[kept], objects.classes[kept], objects.tracks[kept], objects.occluded[kept])


def extent(boxes: Tensor) -> Tensor:
    """Areas (n,) of boxes (n, 4)."""
    return (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
