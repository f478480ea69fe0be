"""How well a flow explains its two frames: the second, warped back by it, beside the first."""

import cv2
import numpy as np
import torch
from einops import rearrange
from torch import Tensor


def warped_error(image1: Tensor, image2: Tensor, flow: Tensor | None = None) -> float:
    """Mean absolute difference, of 255, of the first frame and of the second warped back by the flow.

    A pixel that points out of the frame is compared with the border nearest to where it points: pointing outside is no
    way to look good. Infinite where the flow is not finite.

    Args:
        image1: uint8 (3, h, w).
        image2: uint8 (3, h, w).
        flow: (2, h, w), pixels; None is zero flow.
    """
    first, second = (rearrange(image, "c h w -> h w c").numpy() for image in (image1, image2))
    if flow is None:
        return float(cv2.absdiff(first, second).mean())
    if not flow.isfinite().all():
        return torch.inf
    height, width = flow.shape[1:]
    x = (flow[0] + torch.arange(width)).clamp(0, width - 1).float().numpy()
    y = (flow[1] + torch.arange(height)[:, None]).clamp(0, height - 1).float().numpy()
    back = cv2.remap(second.astype(np.float32), x, y, cv2.INTER_LINEAR)
    return float(cv2.absdiff(back, first.astype(np.float32)).mean(dtype=np.float64))
