"""Boxes (n, 4), left, top, right, bottom in pixels: intersection over union, and non-maximum suppression."""

import numpy as np
import torch
from torch import Tensor


def area(boxes: Tensor) -> Tensor:
    """Areas (...,) of boxes (..., 4); 0 if right < left or bottom < top."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(dim=-1)


def intersection(boxes: Tensor, others: Tensor) -> Tensor:
    """Areas (...,) of the intersections of boxes (..., 4) with others of the same or a broadcast shape."""
    low, high = torch.maximum(boxes[..., :2], others[..., :2]), torch.minimum(boxes[..., 2:], others[..., 2:])
    return (high - low).clamp(min=0).prod(dim=-1)


def box_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union, (n, m), of boxes (n, 4) with others (m, 4)."""
    shared = intersection(boxes[:, None], others[None])
    union = area(boxes)[:, None] + area(others)[None] - shared
    return shared / union.clamp(min=torch.finfo(boxes.dtype).tiny)


def generalized_box_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Generalized intersection over union of pairs, (n,), from -1 to 1 (Rezatofighi et al., CVPR 2019, algorithm 1).

    It is the intersection over union, less the share of the pair's enclosing box that neither covers. Unlike the
    former, it has a gradient if the boxes do not overlap.
    """
    shared = intersection(boxes, others)
    union = area(boxes) + area(others) - shared
    low, high = torch.minimum(boxes[..., :2], others[..., :2]), torch.maximum(boxes[..., 2:], others[..., 2:])
    hull = (high - low).prod(dim=-1)
    tiny = torch.finfo(boxes.dtype).tiny
    return shared / union.clamp(min=tiny) - (hull - union) / hull.clamp(min=tiny)


def non_maximum_suppression(boxes: Tensor, scores: Tensor, classes: Tensor, threshold: float) -> Tensor:
    """Indices of the boxes to keep, int64 (k,), by descending score; ties keep their order.

    A box is dropped if its IoU with a kept box of the same class and a higher score is above `threshold`.

    Args:
        boxes: (n, 4).
        scores: (n,).
        classes: int64 (n,).
        threshold: intersection over union, from 0 to 1.
    """
    order = scores.argsort(descending=True, stable=True)
    boxes, classes = boxes[order], classes[order]
    rivals = ((box_iou(boxes, boxes) > threshold) & (classes[:, None] == classes[None])).triu(1).cpu().numpy()
    kept = np.ones(len(boxes), dtype=bool)
    for place in np.flatnonzero(rivals.any(axis=1)):
        if kept[place]:
            kept &= ~rivals[place]
    return order[torch.from_numpy(kept).to(order.device)]
