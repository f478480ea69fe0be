"""Forward warping of flow, for warm starts (Teed and Deng, ECCV 2020, section 3.3)."""

import numpy as np
import torch
from einops import rearrange
from torch import Tensor


def forward_interpolate(flow: Tensor) -> Tensor:
    """Forward-warped flow (b, 2, h, w) in cells: each cell gets the vector whose target is nearest to it.

    As in RAFT's submission to Sintel, vectors that point to the border of the frame or beyond are left out, so that
    regions that move in get the nearest motion. The result is zero if all vectors are left out.
    """
    if flow.dim() != 4 or flow.shape[1] != 2:
        raise ValueError(f"flow must be (b, 2, h, w), got {tuple(flow.shape)}")
    fields = flow.detach().cpu().double().numpy()
    return torch.from_numpy(np.stack([forward_warped(field) for field in fields])).to(flow)


def forward_warped(flow: np.ndarray) -> np.ndarray:
    """`forward_interpolate` of one float64 flow (2, h, w)."""
    from scipy.spatial import KDTree  # slow to import, and few commands need it

    height, width = flow.shape[1:]
    y, x = np.indices((height, width), dtype=np.float64)
    target = np.stack([x + flow[0], y + flow[1]], axis=-1)
    inside = (target > 0).all(axis=-1) & (target[..., 0] < width) & (target[..., 1] < height)
    if not inside.any():
        return np.zeros_like(flow)
    tree = KDTree(target[inside], leafsize=16)  # as in scipy's griddata; it decides between equally near vectors
    _, nearest = tree.query(rearrange([x, y], "xy h w -> (h w) xy"))
    return flow[:, inside][:, nearest].reshape(flow.shape)
