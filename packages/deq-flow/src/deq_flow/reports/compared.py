"""Figure of a pair of frames with the true flow, the flow of several methods, and their errors."""

from collections.abc import Mapping

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from deq_core.experiment.study.plotting import Figure, Scale, image_grid
from deq_flow.metrics import epe_map
from deq_flow.visualize import flow_key, flow_to_rgb

ROUGHLY_ALL = 0.98
"""Share of the errors within the range of the colour bar; larger ones have its last colour."""
KEY_SHARE = 0.3
"""Diameter of the colour key, relative to a frame's height."""


def compared(
    image1: Tensor, image2: Tensor, truth: Tensor, valid: Tensor, flows: Mapping[str, Tensor], *, width: float = 8.0
) -> Figure:
    """The true flow and the overlaid frames, and beside them the flow of each method and its error.

    Args:
        image1, image2: (3, h, w), 0 to 255.
        truth: (2, h, w), pixels; white where it is not known.
        valid: bool (h, w): where it is known.
        flows: method -> (2, h, w). All flows have one colour scale, and all errors another.
        width: width of the figure, inches.
    """
    longest = float(truth.norm(dim=0)[valid].max())
    errors = {name: torch.where(valid, epe_map(flow, truth), torch.nan) for name, flow in flows.items()}
    largest = max(float(error[valid].quantile(ROUGHLY_ALL)) for error in errors.values())
    known = torch.where(valid, flow_to_rgb(torch.where(valid, truth, 0.0), longest), 255)
    both = (image1.float() + image2.float()).div(2).round().byte()
    return image_grid(
        [
            [
                (f"true flow, to {longest:.0f} px", pixels(known)),
                *((f"{name}: flow", pixels(flow_to_rgb(flow, longest))) for name, flow in flows.items()),
            ],
            [
                ("both frames, colour key", pixels(with_key(both))),
                *((f"error, mean {error[valid].mean():.2f} px", error.numpy()) for error in errors.values()),
            ],
        ],
        width=width,
        scale=Scale("error (px)", 0.0, largest),
    )


def with_key(image: Tensor) -> Tensor:
    """The picture, uint8 (3, h, w), with the colour key of flow in a corner."""
    key = flow_key(round(KEY_SHARE * image.shape[1]))
    height, width = key.shape[1:]
    marked = image.clone()
    marked[:, -height:, -width:] = key
    return marked


def pixels(image: Tensor) -> np.ndarray:
    """(3, h, w) as (h, w, 3)."""
    return rearrange(image, "c h w -> h w c").numpy()
