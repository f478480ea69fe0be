"""Training loss of DEQ-Flow and RAFT."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor


def sequence_loss(
    flows: Sequence[Tensor],
    target: Tensor,
    valid: Tensor,
    gamma: float = 0.8,
    max_flow: float = 400.0,
    *,
    denominator: Literal["all", "valid"] = "all",
) -> Tensor:
    """Weighted sum of the predictions' mean absolute errors, a scalar (Teed & Deng 2020, equation 7).

    Prediction i of n has weight gamma^(n - 1 - i), so the last has weight 1. With the states of an equilibrium solve
    this is the sparse fixed-point correction of Bai et al. (2022).

    Args:
        flows: (B, 2, H, W) predictions in order
        target: (B, 2, H, W) true flow, pixels; may be anything, including NaN, where it is not valid
        valid: (B, H, W) bool, or numbers, for which 0.5 and more mean valid
        max_flow: true motion, in pixels, from which on a pixel does not count
        denominator: "all" divides the sum of the counted errors by the number of all pixels, as released, so that
            sparse ground truth has little weight; "valid" divides it by the number of counted ones
    """
    if not flows:
        raise ValueError("flows must hold at least one prediction, got none")
    counted = valid if valid.dtype == torch.bool else valid >= 0.5
    counted = (counted & (target.norm(dim=1) < max_flow))[:, None].expand_as(target)
    number = counted.sum().clamp(min=1) if denominator == "valid" else counted.numel()
    loss = target.new_zeros(())
    for flow in flows:
        error = torch.where(counted, flow - target, 0.0).abs().sum() / number
        loss = gamma * loss + error
    return loss
