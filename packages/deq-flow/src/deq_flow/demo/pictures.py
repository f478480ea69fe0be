"""What a video of flow shows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from deq_flow.demo.follow import Estimate, fastest
from deq_flow.demo.marks import marked
from deq_flow.demo.warped import warped_back
from deq_flow.visualize import known_motion

View = Literal["colour", "side-by-side", "arrows", "warped"]

ARROWS = 24  # along the longer side
ARROW, SHADOW = (255, 255, 255), (0, 0, 0)


@dataclass(frozen=True)
class Scale:
    """The speed of full colour, which follows a video without flicker: up at once, down slowly."""

    speed: float = 1.0
    """Pixels."""
    least: float = 1.0
    """Pixels; where nothing moves, noise stays pale."""
    decay: float = 0.97
    """Share of the speed that is kept from frame to frame."""

    def after(self, flow: Tensor) -> "Scale":
        """The scale for a flow (2, h, w): nearly its fastest known pixel, or what is left of the scale before."""
        return Scale(
            max(fastest(flow[:, known_motion(flow)]), self.decay * self.speed, self.least), self.least, self.decay
        )


def picture(view: View, estimate: Estimate, colours: Callable[[], Tensor]) -> Tensor:
    """uint8 RGB (3, h, w or 2 w) of an estimate, with a mark where its flow is not to be trusted.

    colour        direction as hue, speed as saturation: what `colours` gives
    side-by-side  the first frame, and that beside it
    arrows        the first frame, with arrows on it
    warped        the second frame, warped back to the first: where it differs from that, the flow or the sight is wrong
    """
    shown = unmarked(view, estimate, colours)
    return shown if estimate.warning is None else marked(shown, estimate.warning)


def unmarked(view: View, estimate: Estimate, colours: Callable[[], Tensor]) -> Tensor:
    """The picture without a mark."""
    match view:
        case "colour":
            return colours()
        case "side-by-side":
            return torch.cat([estimate.image, colours()], dim=2)
        case "arrows":
            return with_arrows(estimate.image, estimate.flow)
        case "warped":
            return warped_back(estimate.second, estimate.flow).round().to(torch.uint8)


def with_arrows(image: Tensor, flow: Tensor) -> Tensor:
    """The image (3, h, w) with arrows from pixels of a grid to where they go, if known and half a pixel or more."""
    canvas = np.ascontiguousarray(rearrange(image, "c h w -> h w c").numpy())
    height, width = canvas.shape[:2]
    known = known_motion(flow)
    spacing = max(8, max(height, width) // ARROWS)
    thickness = max(1, spacing // 16)
    for colour, extra in ((SHADOW, 2), (ARROW, 0)):
        for y in range(spacing // 2, height, spacing):
            for x in range(spacing // 2, width, spacing):
                u, v = flow[:, y, x].tolist()
                if known[y, x] and u * u + v * v >= 0.25:
                    tip = (round(x + u), round(y + v))
                    cv2.arrowedLine(canvas, (x, y), tip, colour, thickness + extra, cv2.LINE_AA, tipLength=0.3)
    return torch.from_numpy(np.ascontiguousarray(rearrange(canvas, "h w c -> c h w")))
