"""Draws results on an image: pixel classes in colour, boxes with names, a caption, a legend."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from deq_vision.data.classes import Colour
from deq_vision.detection.decoding import Detections
from deq_vision.finite import NO_CLASS

READABLE = 480  # minimum width for text, pixels; smaller images are enlarged
WHITE, BLACK = (255, 255, 255), (0, 0, 0)
FONT = cv2.FONT_HERSHEY_SIMPLEX


def enlarged(image: Tensor) -> Tensor:
    """Enlarges the image (3, h, w) by repeating pixels, so that text on it is readable."""
    factor = max(1, -(-READABLE // image.shape[2]))
    return image.repeat_interleave(factor, dim=1).repeat_interleave(factor, dim=2) if factor > 1 else image


def with_classes(image: Tensor, classes: Tensor, colours: Sequence[Colour]) -> Tensor:
    """Overlays the image uint8 (3, h, w) with the colours of pixel classes (h, w), except at `NO_CLASS`."""
    painted = rearrange(torch.tensor(colours, dtype=torch.float32)[classes.clamp(min=0)], "h w c -> c h w")
    below = torch.lerp(image.float(), painted, 0.5).round().to(torch.uint8)
    return torch.where(classes == NO_CLASS, image, below)


def with_boxes(image: Tensor, found: Detections, names: Sequence[str], colours: Sequence[Colour]) -> Tensor:
    """Draws boxes, classes and scores on the image uint8 (3, h, w), enlarged if small; higher scores are on top."""
    factor = enlarged(image).shape[2] / image.shape[2]
    canvas = as_pixels(enlarged(image))
    scale, thickness = font(canvas.shape[1])
    for box, score, kind in reversed(
        list(zip((found.boxes * factor).tolist(), found.scores.tolist(), found.classes.tolist(), strict=True))
    ):
        left, top, right, bottom = (round(edge) for edge in box)
        cv2.rectangle(canvas, (left, top), (right - 1, bottom - 1), colours[kind], thickness)
        label = f"{names[kind]} {score:.2f}"
        (width, height), below = cv2.getTextSize(label, FONT, scale, 1)
        base = max(top, height + below)
        cv2.rectangle(canvas, (left, base - height - below), (left + width, base), colours[kind], cv2.FILLED)
        cv2.putText(canvas, label, (left, base - below // 2), FONT, scale, BLACK, 1, cv2.LINE_AA)
    return as_image(canvas)


def with_caption(image: Tensor, text: str) -> Tensor:
    """Adds a line of text in a black strip below the image uint8 (3, h, w), enlarged if small."""
    image = enlarged(image)
    width = image.shape[2]
    scale, _ = font(width)
    (length, height), below = cv2.getTextSize(text, FONT, scale, 1)
    strip = np.zeros((2 * (height + below), width, 3), dtype=np.uint8)
    fitting = scale * min(1.0, (width - 8) / max(1, length))
    cv2.putText(strip, text, (4, height + below), FONT, fitting, WHITE, 1, cv2.LINE_AA)
    return torch.cat([image, as_image(strip)], dim=1)


def with_legend(
    image: Tensor, texts: Sequence[str], colours: Sequence[Colour], *, widest: Sequence[str] = ()
) -> Tensor:
    """Adds a strip with a colour and a text for each class below the image uint8 (3, h, w), enlarged if small.

    The strip has the same height for all texts no wider than these and `widest`, as the frames of a video must have one
    size.
    """
    image = enlarged(image)
    width = image.shape[2]
    scale, _ = font(width)
    sizes = [cv2.getTextSize(text, FONT, scale, 1) for text in (*texts, *widest)]
    height, below = max(size[0][1] for size in sizes), max(size[1] for size in sizes)
    square, line = height, 2 * (height + below)
    cell = min(width, max(size[0][0] for size in sizes) + square + 16)
    columns = width // cell
    strip = np.zeros((line * -(-len(texts) // columns), width, 3), dtype=np.uint8)
    for place, (text, colour) in enumerate(zip(texts, colours, strict=True)):
        left, base = place % columns * cell + 4, place // columns * line + height + below
        cv2.rectangle(strip, (left, base - square), (left + square, base), colour, cv2.FILLED)
        cv2.rectangle(strip, (left, base - square), (left + square, base), WHITE, 1)  # makes dark colours visible
        room, (length, _), _ = cell - square - 12, *cv2.getTextSize(text, FONT, scale, 1)
        fitting = scale * min(1.0, room / max(1, length))
        cv2.putText(strip, text, (left + square + 4, base), FONT, fitting, WHITE, 1, cv2.LINE_AA)
    return torch.cat([image, as_image(strip)], dim=1)


def font(width: int) -> tuple[float, int]:
    """Scale of text and thickness of lines in an image `width` pixels wide."""
    return max(0.45, width / 1600), max(1, round(width / 500))


def as_pixels(image: Tensor) -> np.ndarray:
    """A copy (h, w, 3) of the image (3, h, w) to draw on."""
    return rearrange(image.numpy(), "c h w -> h w c").copy()


def as_image(pixels: np.ndarray) -> Tensor:
    """The image uint8 (3, h, w) of pixels (h, w, 3)."""
    return torch.from_numpy(np.ascontiguousarray(rearrange(pixels, "h w c -> c h w")))
