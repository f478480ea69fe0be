"""Variational refinement: flow that is nearly right, fitted to the frames themselves at their full resolution."""

import cv2
import numpy as np
import torch
from einops import rearrange
from torch import Tensor


def refined(image1: Tensor, image2: Tensor, flow: Tensor, steps: int) -> Tensor:
    """Flow (B, 2, h, w) of images (B, 3, h, w), values 0 to 255, after `steps` steps of OpenCV's refinement.

    It minimises how much the frames differ in brightness and in its gradient along the flow, and how rough the flow is
    (Brox et al., ECCV 2004), from where it is: also the last stage of DIS (Kroeger et al., ECCV 2016), whose weights it
    has. A network that estimates on cells of several pixels is thus made as fine as the frames. A flow that is not
    finite stays as it is.
    """
    matcher = cv2.VariationalRefinement.create()
    matcher.setFixedPointIterations(steps)
    found = []
    for first, second, start in zip(grey(image1), grey(image2), flow, strict=True):
        if not start.isfinite().all():
            found.append(start)
            continue
        result = matcher.calc(first, second, rearrange(start.float().cpu().numpy(), "xy h w -> h w xy").copy())
        found.append(rearrange(torch.from_numpy(result), "h w xy -> xy h w").to(flow))
    return torch.stack(found)


def grey(images: Tensor) -> list[np.ndarray]:
    """uint8 (h, w) luminance of each RGB image of a batch (B, 3, h, w) in 0..255; a value beyond is the nearest."""
    pictures = rearrange(images, "b c h w -> b h w c").round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    return [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures]
