"""Optimisers, and learning rates as pure functions of the step: a resumed run needs no scheduler state."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from deq_core.experiment.config.optim import OptimConfig


def build(config: OptimConfig, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser of the `parameters` that require a gradient, at the peak learning rate."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not trained:
        raise ValueError("expected at least one parameter that requires a gradient, got none")
    match config.name:
        case "adamw" | "adam":
            kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
            return kind(trained, lr=config.lr, betas=config.betas, eps=config.eps, weight_decay=config.weight_decay)
        case "sgd":
            return torch.optim.SGD(
                trained,
                lr=config.lr,
                momentum=config.momentum,
                nesterov=config.nesterov,
                weight_decay=config.weight_decay,
            )


def learning_rate(config: OptimConfig, step: int, steps: int) -> float:
    """The learning rate of update `step` (from 0) in a training of `steps` updates."""
    match config.schedule:
        case "onecycle":
            return config.lr * _onecycle(step, steps + 100)
        case "cosine":
            progress = max(step - config.warmup, 0) / max(steps - config.warmup, 1)
            return _warm(step, config.warmup) * _cosine(config, progress)
        case "whole_cosine":
            return config.lr * _warm(step, config.warmup) if step < config.warmup else _cosine(config, step / steps)
        case "constant":
            return config.lr * _warm(step, config.warmup)


def _onecycle(step: int, total: int) -> float:
    """Factor of the peak rate: rises linearly from 1/25 over 5 % of `total`, then falls linearly to 1/250,000.

    As in the released DEQ-Flow and RAFT code: torch's OneCycleLR with `total` = steps + 100, pct_start 0.05, linear
    annealing and no momentum cycle. A training therefore stops 100 steps before the end of the schedule.
    """
    peak, end = 0.05 * total - 1, total - 1
    if step <= peak:
        return 1 / 25 + (1 - 1 / 25) * step / peak
    return 1 + (1 / 250_000 - 1) * (step - peak) / (end - peak)


def _cosine(config: OptimConfig, progress: float) -> float:
    return config.floor + (config.lr - config.floor) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def _warm(step: int, warmup: int) -> float:
    return min((step + 1) / warmup, 1.0) if warmup else 1.0
