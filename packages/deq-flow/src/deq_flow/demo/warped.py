"""Backward warping of the second frame by the flow, and its difference to the first frame."""

import cv2
import numpy as np
import torch
from torch import Tensor


def warped_back(image: Tensor, flow: Tensor) -> Tensor:
    """The second of two frames, warped back to the first by the flow between them: float32 (c, h, w).

    A pixel whose target is outside the frame gets the value of the nearest border pixel. It is 0 where the flow is not
    finite.

    Args:
        image: (c, h, w), the second frame, or other values at its pixels.
        flow: (2, h, w) from the first to the second, pixels.
    """
    height, width = flow.shape[1:]
    known = flow.isfinite().all(dim=0)
    u, v = torch.where(known, flow, 0.0)
    x = (u + torch.arange(width)).clamp(0, width - 1).float().numpy()
    y = (v + torch.arange(height)[:, None]).clamp(0, height - 1).float().numpy()
    # One plane at a time: of two, OpenCV rounds positions to 1/32 pixel.
    back = np.stack([cv2.remap(plane, x, y, cv2.INTER_LINEAR) for plane in image.float().numpy()])
    return torch.where(known, torch.from_numpy(back), 0.0)


def warped_error(image1: Tensor, image2: Tensor, flow: Tensor | None = None) -> float:
    """Mean absolute difference, of 255, between the first frame and the second warped back by the flow.

    Pixels whose target is outside the frame are compared with the nearest border pixel, so that such flow gains
    nothing. Infinite if the flow is not finite.

    Args:
        image1: uint8 (3, h, w).
        image2: uint8 (3, h, w).
        flow: (2, h, w), pixels; None is zero flow.
    """
    if flow is not None and not flow.isfinite().all():
        return torch.inf
    back = image2.float() if flow is None else warped_back(image2, flow)
    return float(cv2.absdiff(back.numpy(), image1.float().numpy()).mean(dtype=np.float64))
