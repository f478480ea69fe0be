"""Losses of classification and segmentation."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from deq_vision.data.samples import IGNORE_INDEX


@dataclass(frozen=True, kw_only=True)
class HardPixels:
    """Online hard example mining, which restricts the loss to pixels that the network is unsure of.

    Attributes:
        probability: probability of the true class below which a pixel counts
        at_least: minimum number of pixels that count, the hardest of the batch
    """

    probability: float = 0.9
    at_least: int = 131072

    def __post_init__(self) -> None:
        if not 0 < self.probability <= 1 or self.at_least < 1:
            raise ValueError(
                f"probability must be above 0 and at most 1, at_least at least 1, got {self.probability} and "
                f"{self.at_least}"
            )


def classification_loss(logits: Tensor, labels: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Mean cross entropy of logits (B, classes) against labels (B,), a scalar.

    Args:
        smoothing: label smoothing, the share of the true class's weight that is spread over all classes
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(
            f"expected logits (B, classes) and labels (B,), got {tuple(logits.shape)} and {tuple(labels.shape)}"
        )
    return F.cross_entropy(_at_least_single(logits), labels, label_smoothing=smoothing)


def segmentation_loss(
    logits: Tensor,
    labels: Tensor,
    *,
    weights: Tensor | None = None,
    ignore: int = IGNORE_INDEX,
    align_corners: bool = True,
    hard: HardPixels | None = None,
) -> Tensor:
    """Cross entropy of logits, interpolated to the labels' size, averaged over the labelled pixels; a scalar.

    Args:
        logits: (B, classes, h, w).
        labels: (B, H, W) class of every pixel.
        weights: (classes,) class weights of the mean. With `hard`, the plain mean of the weighted losses is taken, as
            in the release.
        ignore: label of unlabelled pixels. A batch of nothing else has loss 0.
        align_corners: whether the bilinear interpolation aligns corners; the release does in training, not in its test.
        hard: restricts the loss to hard pixels.
    """
    if logits.ndim != 4 or labels.ndim != 3 or len(labels) != len(logits):
        raise ValueError(
            f"expected logits (B, classes, h, w) and labels (B, H, W), got {tuple(logits.shape)} and "
            f"{tuple(labels.shape)}"
        )
    logits = F.interpolate(
        _at_least_single(logits), size=labels.shape[1:], mode="bilinear", align_corners=align_corners
    )
    weights = None if weights is None else weights.to(logits)
    labels = labels.long()
    losses = F.cross_entropy(logits, labels, weights, ignore_index=ignore, reduction="none")
    counted = labels != ignore
    inside = torch.where(counted, labels, 0)
    if hard is None:
        shares = counted.to(losses) if weights is None else torch.where(counted, weights[inside], 0.0)
        return losses.sum() / shares.sum().clamp_min(torch.finfo(losses.dtype).tiny)
    sure = logits.detach().softmax(1).gather(1, inside[:, None])[:, 0][counted]
    if sure.numel() == 0:
        return losses.sum()
    bound = sure.kthvalue(min(hard.at_least + 1, sure.numel())).values.clamp_min(hard.probability)
    chosen = losses[counted][~(sure >= bound)]  # not `sure < bound`: a NaN must reach the loss
    return chosen.sum() / max(1, chosen.numel())


def _at_least_single(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))
