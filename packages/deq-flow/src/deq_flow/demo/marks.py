"""The mark on a picture whose flow is not to be trusted."""

import cv2
import numpy as np
import torch
from einops import rearrange
from torch import Tensor

MARK, INK = (255, 64, 0), (0, 0, 0)
FONT = cv2.FONT_HERSHEY_SIMPLEX


def marked(picture: Tensor, word: str) -> Tensor:
    """The picture, uint8 RGB (3, h, w), with an orange border and, on a label of that colour at the top, the word."""
    canvas = np.ascontiguousarray(rearrange(picture, "c h w -> h w c").numpy())
    height, width = canvas.shape[:2]
    edge = max(2, min(height, width) // 80)
    room = (width - 4 * edge) / cv2.getTextSize(word, FONT, 1.0, 1)[0][0]
    scale = min(max(0.35, min(height, width) / 600), room)  # legible where the picture is small, and within it
    thickness = max(1, round(1.5 * scale))
    (length, tall), below = cv2.getTextSize(word, FONT, scale, thickness)
    right, bottom = length + 3 * edge, tall + below + 2 * edge
    cv2.rectangle(canvas, (0, 0), (width - 1, height - 1), MARK, 2 * edge - 1)
    cv2.rectangle(canvas, (0, 0), (right, bottom), MARK, cv2.FILLED)
    place = (2 * edge, 2 * edge + tall)
    cv2.putText(canvas, word, place, FONT, scale, INK, thickness, cv2.LINE_AA)
    return torch.from_numpy(np.ascontiguousarray(rearrange(canvas, "h w c -> c h w")))
