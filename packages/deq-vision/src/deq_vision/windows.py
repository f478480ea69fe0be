"""Segmentation of whole images from sliding windows, mirrored images and several scales.

A network is any function from images (b, c, h, w) to logits (b, classes, h', w') at a fraction of their size. The
functions here turn a network into one with logits at full size, or logits into classes at full size.
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
    """The mean of the network's logits for images and mirrored images, the latter mirrored back."""

    def predict(images: Tensor) -> Tensor:
        return (network(images) + network(images.flip(-1)).flip(-1)) / 2

    return predict


def sliding(network: Network, window: tuple[int, int]) -> Network:
    """Sliding-window inference: windows lie side by side, and a pixel's logits are averaged over those that contain it.

    A window that would pass the right or bottom edge is moved back inside. Along an axis where the image is smaller
    than the window, the window is cut to the image.

    Args:
        network: function from images to logits of the same size.
        window: height and width of the windows, pixels.
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
    """exp of the logits: keeps the order of classes at a pixel, but gives confident views more weight in sums."""

    def predict(images: Tensor) -> Tensor:
        return network(images).exp()

    return predict


def several_scales(network: Network, scales: Sequence[float]) -> Network:
    """The sum of the network's outputs at each scale, interpolated to the size of the images."""

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
    """The network as the release of MDEQ tests it on Cityscapes; the class of a pixel is that of its greatest output.

    With the defaults, one window covers a whole image of Cityscapes. At larger scales an image has several windows.
    """
    whole = full_size(network)
    return several_scales(sliding(exponential(mirrored(whole) if mirror else whole), window), scales)


def starts(length: int, window: int) -> list[int]:
    """First positions of windows that cover `length`, the last one moved back inside."""
    return [*range(0, length - window, window), max(0, length - window)]


def pixel_classes(logits: Tensor, size: Sequence[int] | torch.Size) -> Tensor:
    """int64 (b, H, W), the class of every pixel of images of `size`, as in the release's test.

    `finite.NO_CLASS` where the logits (b, classes, h, w) around a pixel are not finite.
    """
    return argmax_class(resized(logits.float(), size))


def unreduced_classes(
    logits: Tensor, grid: Sequence[int], seen: Sequence[int], size: Sequence[int] | torch.Size
) -> Tensor:
    """int64 (b, H, W), the class of every pixel of images of `size` that the network saw resized and padded.

    Logits, not classes, are interpolated, as for Cityscapes: one class at a time, because all of them for a large image
    would take more memory than the network. `finite.NO_CLASS` as in `pixel_classes`.

    Args:
        logits: (b, classes, h, w).
        grid: (h, w) of the network's input.
        seen: (h, w) of that input without the padding below and to the right.
        size: (H, W) of the original images.
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
    """Pads normalised images (b, 3, h, w) with zeros, the mean colour, below and right to sides of a multiple."""
    height, width = images.shape[2:]
    return F.pad(images, (0, -width % multiple, 0, -height % multiple))


def resized(values: Tensor, size: Sequence[int] | torch.Size) -> Tensor:
    """Bilinear interpolation of (b, c, h, w) to `size` without aligned corners, as in the release's test."""
    if tuple(values.shape[2:]) == tuple(size):
        return values
    return F.interpolate(values, size=tuple(size), mode="bilinear", align_corners=False)
