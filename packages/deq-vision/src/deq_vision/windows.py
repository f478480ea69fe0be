"""Logits of whole images from a network that sees pieces, mirror images or other sizes of them.

The network is any function from images (b, c, h, w) to logits (b, classes, h', w') at a fraction of their size. Each
function here returns such a function, or what it gives for some images, at their full size.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from deq_vision.finite import NO_CLASS, argmax_class

Network = Callable[[Tensor], Tensor]


def full_size(network: Network) -> Network:
    """The network with its logits interpolated to the size of the images."""

    def predict(images: Tensor) -> Tensor:
        return resized(network(images), images.shape[2:])

    return predict


def mirrored(network: Network) -> Network:
    """The mean of the logits of the images and of those, mirrored back, of the mirrored images."""

    def predict(images: Tensor) -> Tensor:
        return (network(images) + network(images.flip(-1)).flip(-1)) / 2

    return predict


def sliding(network: Network, window: tuple[int, int]) -> Network:
    """The mean of the logits of windows side by side, each pixel's over the windows that hold it.

    A window that would pass the right or bottom edge is moved back inside; along an axis on which the image is smaller
    than the window, it is cut to the image.

    Args:
        network: gives logits at the size of its images.
        window: (h, w), pixels.
    """

    def predict(images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        rows, columns = starts(height, window[0]), starts(width, window[1])
        total, count = None, images.new_zeros(height, width)
        for y in rows:
            for x in columns:
                part = (slice(y, y + window[0]), slice(x, x + window[1]))
                logits = network(images[:, :, *part])
                if total is None:
                    total = logits.new_zeros(*logits.shape[:2], height, width)
                total[:, :, *part] += logits
                count[part] += 1
        assert total is not None  # there is at least one window
        return total / count

    return predict


def exponential(network: Network) -> Network:
    """exp of the logits: the classes' order at a pixel stays, but sums over sizes and windows weigh sure ones more."""

    def predict(images: Tensor) -> Tensor:
        return network(images).exp()

    return predict


def several_scales(network: Network, scales: Sequence[float]) -> Network:
    """The sum of what the network gives for the images at each scale, interpolated to the images' own size."""

    def predict(images: Tensor) -> Tensor:
        size = images.shape[2:]
        values = []
        for scale in scales:
            scaled = resized(images, [max(1, round(length * scale)) for length in size])
            values.append(resized(network(scaled), size))
        return torch.stack(values).sum(dim=0)

    return predict


def cityscapes_test(
    network: Network,
    *,
    window: tuple[int, int] = (1024, 2048),
    scales: Sequence[float] = (1.0,),
    mirror: bool = False,
) -> Network:
    """How MDEQ is tested on Cityscapes: of what it gives, the greatest of a pixel is its class.

    By default the whole image is seen once. At greater scales, windows slide over it side by side.
    """
    whole = full_size(network)
    return several_scales(sliding(exponential(mirrored(whole) if mirror else whole), window), scales)


def starts(length: int, window: int) -> list[int]:
    """Where windows begin that cover `length`, the last moved back inside."""
    return [*range(0, length - window, window), max(0, length - window)]


def pixel_classes(logits: Tensor, size: Sequence[int] | torch.Size) -> Tensor:
    """int64 (b, H, W), the class of every pixel of images of `size`, as the release's test has it.

    `finite.NO_CLASS` where the logits (b, classes, h, w) around a pixel are not numbers.
    """
    return argmax_class(resized(logits.float(), size))


def unreduced_classes(
    logits: Tensor, grid: Sequence[int], seen: Sequence[int], size: Sequence[int] | torch.Size
) -> Tensor:
    """int64 (b, H, W), the class of every pixel of pictures of `size` that a network saw reduced and padded.

    The logits are enlarged, as for Cityscapes, and not the classes: one class after the other, since those of a large
    picture would take more memory than the network. `finite.NO_CLASS` as in `pixel_classes`.

    Args:
        logits: (b, classes, h, w).
        grid: (h, w) of the images that the network saw.
        seen: (h, w) of these without padding below and to the right.
        size: (H, W).
    """

    def enlarged(index: int) -> Tensor:
        scores = resized(logits[:, index : index + 1].float(), grid)
        return resized(scores[:, :, : seen[0], : seen[1]], size)[:, 0]

    greatest = enlarged(0)
    classes = torch.zeros_like(greatest, dtype=torch.int64)
    for index in range(1, logits.shape[1]):
        scores = enlarged(index)
        classes[scores > greatest] = index
        greatest = torch.maximum(greatest, scores)
    return torch.where(greatest.isfinite(), classes, NO_CLASS)


def padded(images: Tensor, multiple: int) -> Tensor:
    """Normalised images (b, 3, h, w) with zeros, the mean colour, below and to the right: sides that are multiples."""
    height, width = images.shape[2:]
    return F.pad(images, (0, -width % multiple, 0, -height % multiple))


def resized(values: Tensor, size: Sequence[int] | torch.Size) -> Tensor:
    """Bilinear interpolation of (b, c, h, w) to `size`; corners are not aligned, as in the release's test."""
    if tuple(values.shape[2:]) == tuple(size):
        return values
    return F.interpolate(values, size=tuple(size), mode="bilinear", align_corners=False)
