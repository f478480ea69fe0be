"""Pictures of flow: colours, arrows, and frames warped back."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from deq_flow.demo.follow import Estimate, fastest
from deq_flow.demo.warped import warped_back
from deq_flow.visualize import known_motion

View = Literal["colour", "side-by-side", "arrows", "warped"]

ARROWS = 24  # number of arrows along the longer side
ARROW, SHADOW = (255, 255, 255), (0, 0, 0)
MARK, INK = (255, 64, 0), (0, 0, 0)
FONT = cv2.FONT_HERSHEY_SIMPLEX


@dataclass(frozen=True)
class Scale:
    """The speed of full colour over a video. It rises at once and falls slowly, to avoid flicker."""

    speed: float = 1.0
    """Speed of full colour, pixels."""
    least: float = 1.0
    """Least speed of full colour, pixels, so that noise stays pale without motion."""
    decay: float = 0.97
    """Factor by which the speed may fall from frame to frame."""

    def after(self, flow: Tensor) -> "Scale":
        """The scale for a flow (2, h, w): about the speed of its fastest known pixels, or the decayed one before."""
        return Scale(
            max(fastest(flow[:, known_motion(flow)]), self.decay * self.speed, self.least), self.least, self.decay
        )


def picture(view: View, estimate: Estimate, colours: Callable[[], Tensor]) -> Tensor:
    """The picture of an estimate, uint8 RGB (3, h, w or 2 w), marked if its flow is not to be trusted.

    colour        the result of `colours`: direction as hue, speed as saturation
    side-by-side  the first frame, with that beside it
    arrows        the first frame with arrows
    warped        the second frame warped back to the first; it differs where the flow is wrong, and where pixels are
                  occluded
    """
    match view:
        case "colour":
            shown = colours()
        case "side-by-side":
            shown = torch.cat([estimate.image, colours()], dim=2)
        case "arrows":
            shown = with_arrows(estimate.image, estimate.flow)
        case "warped":
            shown = warped_back(estimate.second, estimate.flow).round().to(torch.uint8)
    return shown if estimate.warning is None else marked(shown, estimate.warning)


def with_arrows(image: Tensor, flow: Tensor) -> Tensor:
    """The image (3, h, w) with arrows from pixels of a grid to their targets, if known and at least half a pixel."""
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


def marked(picture: Tensor, word: str) -> Tensor:
    """The picture, uint8 RGB (3, h, w), with an orange border, and the word on a label of that colour at the top."""
    canvas = np.ascontiguousarray(rearrange(picture, "c h w -> h w c").numpy())
    height, width = canvas.shape[:2]
    edge = max(2, min(height, width) // 80)
    room = (width - 4 * edge) / cv2.getTextSize(word, FONT, 1.0, 1)[0][0]
    scale = min(max(0.35, min(height, width) / 600), room)  # legible in small pictures, but within them
    thickness = max(1, round(1.5 * scale))
    (length, tall), below = cv2.getTextSize(word, FONT, scale, thickness)
    right, bottom = length + 3 * edge, tall + below + 2 * edge
    cv2.rectangle(canvas, (0, 0), (width - 1, height - 1), MARK, 2 * edge - 1)
    cv2.rectangle(canvas, (0, 0), (right, bottom), MARK, cv2.FILLED)
    place = (2 * edge, 2 * edge + tall)
    cv2.putText(canvas, word, place, FONT, scale, INK, thickness, cv2.LINE_AA)
    return torch.from_numpy(np.ascontiguousarray(rearrange(canvas, "h w c -> c h w")))
