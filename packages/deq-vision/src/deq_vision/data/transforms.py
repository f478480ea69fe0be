"""Transforms of images in training and evaluation: cropping, mirroring, scaling, normalisation."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from deq_vision.data.samples import LabelledImage

Colour = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Normalisation:
    """Normalisation of pixels by mean and standard deviation, RGB, for values from 0 to 1."""

    mean: Colour
    std: Colour

    def __post_init__(self) -> None:
        if min(self.std) <= 0:
            raise ValueError(f"std must be positive, got {self.std}")

    def apply(self, images: Tensor) -> Tensor:
        """Normalises uint8 images (..., 3, h, w) to float32."""
        mean, std = (torch.tensor(values, device=images.device)[:, None, None] for values in (self.mean, self.std))
        return (images.float() / 255 - mean) / std


CIFAR = Normalisation(mean=(0.4914, 0.4822, 0.4465), std=(0.2023, 0.1994, 0.2010))
IMAGENET = Normalisation(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


@dataclass(frozen=True, kw_only=True)
class CropFlip:
    """Random crop of the image's size from the image with a black border, and random mirroring; usual for CIFAR."""

    padding: int = 4
    """Width of the border, pixels."""
    flip_chance: float = 0.5
    kind: Literal["crop_flip"] = field(default="crop_flip", repr=False)

    def __post_init__(self) -> None:
        if self.padding < 0:
            raise ValueError(f"padding must not be negative, got {self.padding}")
        check_chance(self.flip_chance)


@dataclass(frozen=True, kw_only=True)
class ResizedCrop:
    """Crop of random area and aspect ratio, resized, and random mirroring; usual for ImageNet."""

    size: int = 224
    """Height and width of the result, pixels."""
    area: tuple[float, float] = (0.08, 1.0)
    """Minimum and maximum share of the image's area."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Minimum and maximum aspect ratio of the crop, width over height."""
    flip_chance: float = 0.5
    tries: int = 10
    """Maximum number of crops drawn until one fits into the image; then the largest centre crop within `ratio`."""
    kind: Literal["resized_crop"] = field(default="resized_crop", repr=False)

    def __post_init__(self) -> None:
        if self.size < 1 or self.tries < 0:
            raise ValueError(f"size must be at least 1 and tries at least 0, got {self.size} and {self.tries}")
        if not 0 < self.area[0] <= self.area[1] <= 1:
            raise ValueError(f"area must be 0 < least <= greatest <= 1, got {self.area}")
        if not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f"ratio must be 0 < least <= greatest, got {self.ratio}")
        check_chance(self.flip_chance)


@dataclass(frozen=True)
class Augment:
    """Augments labelled images by `crop_flip` or `resized_crop`."""

    config: CropFlip | ResizedCrop

    def __call__(self, sample: LabelledImage, _: int, rng: np.random.Generator) -> LabelledImage:
        image = crop_flip if isinstance(self.config, CropFlip) else resized_crop
        return replace(sample, image=image(sample.image, self.config, rng))  # pyright: ignore[reportArgumentType]


def crop_flip(image: Tensor, config: CropFlip, rng: np.random.Generator) -> Tensor:
    """Shifts an image by up to `padding` pixels and may mirror it; its size stays."""
    _, height, width = image.shape
    y, x = rng.integers(2 * config.padding, size=2, endpoint=True).tolist()
    padded = F.pad(image, [config.padding] * 4)
    return flipped(padded[:, y : y + height, x : x + width], rng.uniform() < config.flip_chance)


def resized_crop(image: Tensor, config: ResizedCrop, rng: np.random.Generator) -> Tensor:
    """A random crop of an image, resized to (3, size, size)."""
    y, x, height, width = random_part(image.shape[1:], config, rng)
    part = image[:, y : y + height, x : x + width]
    return flipped(resize(part, (config.size, config.size)), rng.uniform() < config.flip_chance)


def random_part(size: Sequence[int], config: ResizedCrop, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Top, left, height and width of a random crop of an image (h, w)."""
    h, w = size
    for _ in range(config.tries):
        area = h * w * rng.uniform(*config.area)
        ratio = math.exp(rng.uniform(math.log(config.ratio[0]), math.log(config.ratio[1])))
        height, width = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if 0 < height <= h and 0 < width <= w:
            y, x = int(rng.integers(h - height, endpoint=True)), int(rng.integers(w - width, endpoint=True))
            return y, x, height, width
    ratio = min(max(w / h, config.ratio[0]), config.ratio[1])
    height, width = min(h, round(w / ratio)), min(w, round(h * ratio))
    return (h - height) // 2, (w - width) // 2, height, width


def centre_crop(image: Tensor, *, short_side: int = 256, size: int = 224) -> Tensor:
    """Resizes the shorter side of an image to `short_side` pixels, and crops the centre, (3, size, size).

    Sizes are rounded as by torchvision's Resize and CenterCrop.

    Raises:
        ValueError: the crop is larger than the shorter side.
    """
    if not 1 <= size <= short_side:
        raise ValueError(f"expected 1 <= size <= short_side, got {size} and {short_side}")
    _, h, w = image.shape
    scaled = resize(image, (h * short_side // min(h, w), w * short_side // min(h, w)))
    y, x = (round((length - size) / 2) for length in scaled.shape[1:])
    return scaled[:, y : y + size, x : x + size].contiguous()


def centre_cropped(sample: LabelledImage, crop: tuple[int, int]) -> LabelledImage:
    """The sample with the `centre_crop` of its image; `crop` is shorter side and size."""
    return replace(sample, image=centre_crop(sample.image, short_side=crop[0], size=crop[1]))


def resize(image: Tensor, size: tuple[int, int], *, smooth: bool = True) -> Tensor:
    """Resizes uint8 (c, h, w) to `size` (h, w), bilinearly.

    `smooth` averages pixels along an axis that shrinks, as Pillow does; otherwise pixels between the samples are lost.
    """
    if tuple(image.shape[1:]) == size:
        return image
    if smooth:
        return F.interpolate(image[None], size, mode="bilinear", antialias=True)[0]
    pixels = np.ascontiguousarray(rearrange(image.numpy(), "c h w -> h w c"))
    resized = cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_LINEAR)
    return torch.from_numpy(np.ascontiguousarray(rearrange(resized.reshape(*size, -1), "h w c -> c h w")))


def flipped(image: Tensor, flip: bool) -> Tensor:
    """The image, mirrored left to right if `flip`."""
    return (image.flip(-1) if flip else image).contiguous()


def check_chance(chance: float) -> None:
    """Raises ValueError unless it is a probability."""
    if not 0 <= chance <= 1:
        raise ValueError(f"flip_chance must be in [0, 1], got {chance}")
