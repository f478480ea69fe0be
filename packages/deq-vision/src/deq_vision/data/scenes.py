"""Augmentation of images with the classes of pixels or with boxes: scaled, mirrored, padded and cropped together."""

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
    """How scenes are changed. The defaults are those MDEQ was trained with on Cityscapes."""

    long_side: int = 2048
    """Length of an image's longer side before the random scale, pixels."""
    short_side: int | None = None
    """Greatest length of the shorter side, which may make both shorter still; None for no limit."""
    scale: tuple[float, float] = (0.5, 2.1)
    """Least and greatest random scale."""
    scale_step: float = 0.1
    """Between the scales that are drawn; 0 draws any."""
    crop: tuple[int, int] | None = (512, 1024)
    """Height and width of what remains, pixels; smaller images are padded with black below and to the right. None
    leaves images as large as they are."""
    flip_chance: float = 0.5
    smooth: bool = False
    """Whether an image that shrinks becomes the mean of its pixels, as photographs want, and each label that of the
    middle; the release interpolates images, and takes labels from up to half a pixel further left and up."""
    least_share: float = LEAST_SHARE
    """Objects of which the crop leaves a smaller share are dropped."""

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
    """One change of place and size: scaled, mirrored, padded, then cropped."""

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
    """Augments images with the classes of their pixels."""

    config: SceneAugment

    def __call__(self, sample: SegmentedImage, _: int, rng: np.random.Generator) -> SegmentedImage:
        placement = random_placement(tuple(sample.labels.shape), self.config, rng)
        return SegmentedImage(place_image(sample.image, placement), place_labels(sample.labels, placement), sample.name)


@dataclass(frozen=True)
class AugmentAnnotated:
    """Augments images with boxes."""

    config: SceneAugment

    def __call__(self, sample: AnnotatedImage, _: int, rng: np.random.Generator) -> AnnotatedImage:
        size = tuple(sample.image.shape[1:])
        placement = random_placement(size, self.config, rng)
        objects = place_objects(sample.objects, size, placement, self.config.least_share)
        return AnnotatedImage(place_image(sample.image, placement), objects, sample.name)


def random_placement(size: tuple[int, ...], config: SceneAugment, rng: np.random.Generator) -> Placement:
    """For an image (h, w)."""
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
    """(h, w) of an image (h, w) whose sides are as long as `config` says, times `scale`."""
    factor = config.long_side / max(size)
    if config.short_side is not None:
        factor = min(factor, config.short_side / min(size))
    height, width = (max(1, int(factor * scale * length + 0.5)) for length in size)
    return height, width


def fitted_to(size: tuple[int, ...], sides: tuple[int, int] | None) -> tuple[int, int]:
    """(h, w) of an image (h, w) whose sides are brought to (longer, shorter) at most; its own if these are None."""
    if sides is None:
        return size[0], size[1]
    return fitted(size, SceneAugment(long_side=sides[0], short_side=sides[1], crop=None))


def fit_segmented(sample: SegmentedImage, sides: tuple[int, int]) -> SegmentedImage:
    """The image and its mask with their sides brought to (longer, shorter) at most, and the mask as it was."""
    size = fitted_to(tuple(sample.labels.shape), sides)
    placement = Placement(size, flip=False, corner=(0, 0), size=size, smooth=True)
    image, labels = place_image(sample.image, placement), place_labels(sample.labels, placement)
    return SegmentedImage(image, labels, sample.name, whole=None if size == sample.labels.shape else sample.labels)


def require_sides(sides: tuple[int, int] | None) -> None:
    """Raises ValueError unless they are a longer and a shorter side, or None."""
    if sides is not None and not sides[0] >= sides[1] >= 1:
        raise ValueError(f"test_sides must be longer >= shorter >= 1, got {sides}")


def place_image(image: Tensor, placement: Placement) -> Tensor:
    """uint8 (3, h, w) of the placement's size, black where there was nothing; interpolated as in the release."""
    scaled = resize(image, placement.scaled, smooth=placement.smooth)
    return cut(flipped(scaled, placement.flip), placement, fill=0)


def place_labels(labels: Tensor, placement: Placement) -> Tensor:
    """uint8 (h, w) of the placement's size, `IGNORE_INDEX` where there was nothing; see `SceneAugment.smooth`."""
    nearest = cv2.INTER_NEAREST_EXACT if placement.smooth else cv2.INTER_NEAREST
    scaled = cv2.resize(labels.numpy(), placement.scaled[::-1], interpolation=nearest)
    return cut(flipped(torch.from_numpy(scaled)[None], placement.flip), placement, fill=IGNORE_INDEX)[0]


def cut(values: Tensor, placement: Placement, *, fill: int) -> Tensor:
    """The crop of (c, h, w), filled below and to the right."""
    (y, x), (height, width) = placement.corner, placement.size
    part = values[:, y : y + height, x : x + width]
    missing = (0, width - part.shape[2], 0, height - part.shape[1])
    return torch.nn.functional.pad(part, missing, value=fill).contiguous()


def place_objects(objects: Objects, size: tuple[int, ...], placement: Placement, least_share: float) -> Objects:
    """The objects of an image (h, w) in the crop: those of which at least a share is left, cut at its edges."""
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
    """(n,), areas of boxes (n, 4)."""
    return (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
