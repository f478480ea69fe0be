"""The training loss of DEQ-Flow and RAFT."""

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

    Prediction i of n weighs gamma^(n - 1 - i), so the last weighs 1. With the states of an equilibrium solve this is
    the sparse fixed-point correction of Bai et al. (2022).

    Args:
        flows: (B, 2, H, W) predictions in order
        target: (B, 2, H, W) true flow, pixels; values where `valid` is not set may be anything, NaN included
        valid: (B, H, W) bool, or numbers of which 0.5 and more count as valid
        max_flow: pixels that move at least this far do not count
        denominator: "all": errors are summed over the counted pixels and divided by all of them, as released, so sparse
            truth weighs little; "valid": divided by the counted ones
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
