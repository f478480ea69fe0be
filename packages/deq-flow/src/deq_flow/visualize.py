"""Flow and errors as colours."""

from itertools import pairwise

import cv2
import numpy as np
import torch
from torch import Tensor

# Baker et al., IJCV 2011: how many hues the wheel has between red, yellow, green, cyan, blue, magenta and red again.
HUES = (15, 6, 4, 11, 13, 6)
CORNERS = ((255, 0, 0), (255, 255, 0), (0, 255, 0), (0, 255, 255), (0, 0, 255), (255, 0, 255), (255, 0, 0))


def colour_wheel() -> np.ndarray:
    """The 55 RGB colours of the Middlebury wheel, (55, 3), 0 to 255, from red by yellow, green and blue to magenta."""
    arcs = []
    for count, (start, end) in zip(HUES, pairwise(CORNERS), strict=True):
        rise = np.floor(255 * np.arange(count) / count)[:, None]
        arcs.append(np.array(start) + np.sign(np.array(end) - np.array(start)) * rise)
    return np.concatenate(arcs)


def flow_to_rgb(flow: Tensor, max_norm: float | None = None) -> Tensor:
    """uint8 RGB (3, h, w): direction as hue, speed as saturation, for flow (2, h, w) in pixels.

    Args:
        flow: float (2, h, w); standing still is white.
        max_norm: speed of full saturation, pixels; the greatest of the flow if None. Faster pixels are darkened.
    """
    values = flow.detach().cpu().double().numpy()
    if values.ndim != 3 or values.shape[0] != 2:
        raise ValueError(f"flow must be (2, h, w), got {values.shape}")
    greatest = float(np.hypot(*values).max()) if max_norm is None else max_norm
    u, v = values / (greatest + 1e-5)  # the constant keeps a flow of zero defined
    speed = np.hypot(u, v)[:, :, None]
    wheel = colour_wheel() / 255
    position = (np.arctan2(-v, -u) / np.pi + 1) / 2 * (len(wheel) - 1)
    below = np.floor(position).astype(np.int64)
    share = (position - below)[:, :, None]
    hue = (1 - share) * wheel[below] + share * wheel[(below + 1) % len(wheel)]
    colour = np.where(speed <= 1, 1 - speed * (1 - hue), 0.75 * hue)
    return torch.from_numpy(np.floor(255 * colour).astype(np.uint8)).permute(2, 0, 1).contiguous()


def error_to_rgb(error: Tensor, valid: Tensor | None = None, *, max_error: float) -> Tensor:
    """uint8 RGB (3, h, w): a heat map of an error (h, w), from blue at 0 to red at `max_error`; black if not valid."""
    if max_error <= 0:
        raise ValueError(f"max_error must be positive, got {max_error}")
    known = torch.ones_like(error, dtype=torch.bool) if valid is None else valid
    level = torch.where(known, error, 0.0).div(max_error).clamp(0, 1).mul(255).round().to(torch.uint8).cpu().numpy()
    heat = cv2.applyColorMap(level, cv2.COLORMAP_TURBO)[:, :, ::-1] * known.cpu().numpy()[:, :, None]
    return torch.from_numpy(heat.astype(np.uint8)).permute(2, 0, 1).contiguous()
