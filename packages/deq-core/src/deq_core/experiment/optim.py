"""Optimisers, and learning rates as pure functions of the step, so that a resumed run needs no schedule state."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

_BETAS, _EPS = (0.9, 0.999), 1e-8


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Optimiser and learning-rate schedule of a training."""

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: float
    """Peak learning rate."""
    weight_decay: float = 0.0
    """Decoupled for adamw (Loshchilov and Hutter, ICLR 2019), an L2 penalty's gradient for adam and sgd."""
    betas: tuple[float, float] = _BETAS
    """Decay of the moment estimates of adamw and adam."""
    eps: float = _EPS
    momentum: float = 0.0
    """Momentum of sgd."""
    nesterov: bool = False
    """Whether sgd's momentum is Nesterov's."""
    schedule: Literal["onecycle", "cosine", "whole_cosine", "constant"] = "constant"
    """onecycle has a warm-up of its own; cosine falls from `lr` after the warm-up to `floor` at the last step;
    whole_cosine is that of all steps, whose beginning the warm-up replaces: DEQ-Transformer's release."""
    floor: float = 0.0
    """Learning rate at the end of cosine."""
    warmup: int = 0
    """Steps over which the rate rises linearly to `lr`."""
    clip: float | None = None
    """Largest 2-norm of the whole gradient; a longer one is scaled down to it."""

    def __post_init__(self) -> None:
        if not self.lr > 0:
            raise ValueError(f"lr: expected a number above 0, got {self.lr}")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay: expected a number of at least 0, got {self.weight_decay}")
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip: expected a number above 0 or null, got {self.clip}")
        if self.warmup < 0 or (self.warmup and self.schedule == "onecycle"):
            raise ValueError(f"warmup: expected 0 for onecycle, otherwise at least 0 steps, got {self.warmup}")
        if self.floor and (self.schedule not in ("cosine", "whole_cosine") or not 0 <= self.floor <= self.lr):
            raise ValueError(f"floor: belongs to cosine, from 0 to lr, got {self.floor} with {self.schedule}")
        if self.nesterov and not (self.name == "sgd" and self.momentum):
            raise ValueError(f"nesterov: belongs to sgd with momentum, got {self.name} with {self.momentum}")
        if self.momentum and self.name != "sgd":
            raise ValueError(f"momentum: belongs to sgd; {self.name} has betas, got momentum {self.momentum}")
        if self.name == "sgd" and (self.betas, self.eps) != (_BETAS, _EPS):
            raise ValueError(f"betas and eps: belong to adamw and adam; sgd has momentum, got {self.betas}, {self.eps}")


def build(config: OptimConfig, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimiser of `config` over those of `parameters` that require a gradient, at its peak learning rate."""
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
    """Share of the peak rate at `step`: linear from 1/25 up over a twentieth of `total`, then down to 1/250,000.

    As the released DEQ-Flow and RAFT code trains (torch's OneCycleLR with `total` = steps + 100, pct_start 0.05,
    linear annealing, no momentum cycle), hence the last updates of a run stop short of the end.
    """
    peak, end = 0.05 * total - 1, total - 1
    if step <= peak:
        return 1 / 25 + (1 - 1 / 25) * step / peak
    return 1 + (1 / 250_000 - 1) * (step - peak) / (end - peak)


def _cosine(config: OptimConfig, progress: float) -> float:
    return config.floor + (config.lr - config.floor) * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def _warm(step: int, warmup: int) -> float:
    return min((step + 1) / warmup, 1.0) if warmup else 1.0
