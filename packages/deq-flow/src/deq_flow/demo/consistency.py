"""Forward-backward consistency of flow: occlusion and confidence."""

import torch
from torch import Tensor

from deq_flow.demo.warped import warped_back
from deq_flow.visualize import known_motion


def disagreement(flow: Tensor, backward: Tensor) -> Tensor:
    """Forward-backward inconsistency of each pixel of the first frame, (h, w); below 1 it counts as consistent.

    |w + w_b|^2 / (0.01 (|w|^2 + |w_b|^2) + 0.5), with w a pixel's flow and w_b the backward flow at its target: the
    criterion of Sundaram, Brox and Keutzer, "Dense Point Trajectories by GPU-Accelerated Large Displacement Optical
    Flow", ECCV 2010. Infinite where a pixel leaves the frame, or where either flow is not known.

    Args:
        flow: (2, h, w) from the first frame to the second, pixels.
        backward: (2, h, w) from the second to the first.
    """
    height, width = flow.shape[1:]
    returning = warped_back(backward, flow)
    x, y = flow[0] + torch.arange(width), flow[1] + torch.arange(height)[:, None]
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    limit = 0.01 * (flow.square().sum(dim=0) + returning.square().sum(dim=0)) + 0.5
    apart = (flow + returning).square().sum(dim=0) / limit
    return torch.where(inside & known_motion(flow) & known_motion(returning), apart, torch.inf)


def occlusion(flow: Tensor, backward: Tensor) -> Tensor:
    """bool (h, w): pixels of the first frame that are not visible in the second, according to the two flows."""
    return disagreement(flow, backward) >= 1


def confidence(flow: Tensor, backward: Tensor) -> Tensor:
    """Confidence (h, w), 0 to 1: exp(-disagreement), so that values above 1 / e are not occluded."""
    return torch.exp(-disagreement(flow, backward))
