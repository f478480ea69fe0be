"""Variational refinement of a flow estimate on the frames at full resolution."""

import cv2
import numpy as np
import torch
from einops import rearrange
from torch import Tensor


def refined(image1: Tensor, image2: Tensor, flow: Tensor, steps: int) -> Tensor:
    """Flow (B, 2, h, w) of images (B, 3, h, w), values 0 to 255, after `steps` steps of OpenCV's refinement.

    Starting from `flow`, it minimises brightness and gradient constancy terms and a smoothness term (Brox et al.,
    ECCV 2004). It is the last stage of OpenCV's DIS (Kroeger et al., ECCV 2016), whose weights it has. It adds the
    detail that a network lacks whose cells are several pixels wide. A flow that is not finite is returned unchanged.
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
    """uint8 (h, w) luminance of each RGB image of a batch (B, 3, h, w); values are clamped to 0..255."""
    pictures = rearrange(images, "b c h w -> b h w c").round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    return [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in pictures]
