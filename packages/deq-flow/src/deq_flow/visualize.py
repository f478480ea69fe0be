"""Colour coding of flow."""

from itertools import pairwise

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

# Baker et al., IJCV 2011: numbers of hues of the wheel between red, yellow, green, cyan, blue, magenta and red again.
HUES = (15, 6, 4, 11, 13, 6)
UNKNOWN = 1e9  # pixels; Middlebury marks unknown motion by larger components
CORNERS = ((255, 0, 0), (255, 255, 0), (0, 255, 0), (0, 255, 255), (0, 0, 255), (255, 0, 255), (255, 0, 0))


def colour_wheel() -> np.ndarray:
    """The 55 RGB colours of the Middlebury wheel, (55, 3), 0 to 255, from red through green and blue to magenta."""
    arcs = []
    for count, (start, end) in zip(HUES, pairwise(CORNERS), strict=True):
        rise = np.floor(255 * np.arange(count) / count)[:, None]
        arcs.append(np.array(start) + np.sign(np.array(end) - np.array(start)) * rise)
    return np.concatenate(arcs)


def known_motion(flow: Tensor) -> Tensor:
    """bool (..., h, w): where a flow (..., 2, h, w) is known: finite, and below the 1e9 that marks unknown motion."""
    return (flow.abs() < UNKNOWN).all(dim=-3)


def flow_to_rgb(flow: Tensor, max_norm: float | None = None) -> Tensor:
    """uint8 RGB (3, h, w): direction as hue, speed as saturation, for flow (2, h, w) in pixels.

    Args:
        flow: float (2, h, w); zero motion is white, unknown motion (see `known_motion`) black.
        max_norm: speed of full saturation, pixels; None is the greatest known one. Faster pixels are darker.
    """
    if flow.ndim != 3 or flow.shape[0] != 2:
        raise ValueError(f"flow must be (2, h, w), got {tuple(flow.shape)}")
    known = known_motion(flow)
    values = torch.where(known, flow, 0.0).detach().cpu().double().numpy()
    greatest = float(np.hypot(*values).max()) if max_norm is None else max_norm
    u, v = values / (greatest + 1e-5)  # the constant avoids 0 / 0
    speed = np.hypot(u, v)[:, :, None]
    wheel = colour_wheel() / 255
    position = (np.arctan2(-v, -u) / np.pi + 1) / 2 * (len(wheel) - 1)
    below = np.floor(position).astype(np.int64)
    share = (position - below)[:, :, None]
    hue = (1 - share) * wheel[below] + share * wheel[(below + 1) % len(wheel)]
    colour = np.where(speed <= 1, 1 - speed * (1 - hue), 0.75 * hue) * known.cpu().numpy()[:, :, None]
    return rearrange(torch.from_numpy(np.floor(255 * colour).astype(np.uint8)), "h w c -> c h w").contiguous()


def flow_key(size: int) -> Tensor:
    """The colour key of `flow_to_rgb`, uint8 RGB (3, size, size): a disc with the colour of the motion to each point.

    Its rim is the speed of full saturation, `max_norm`; outside it is white.
    """
    y, x = torch.meshgrid(*2 * [torch.linspace(-1.0, 1.0, size)], indexing="ij")
    motion = torch.stack([x, y])
    return torch.where(motion.norm(dim=0) < 1.0 + 1e-6, flow_to_rgb(motion, max_norm=1.0), 255)
