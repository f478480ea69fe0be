"""Configuration of the optimiser, the learning-rate schedule, and how often training logs, saves and evaluates."""

from dataclasses import dataclass
from typing import Literal

_BETAS, _EPS = (0.9, 0.999), 1e-8


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Optimiser and learning-rate schedule of a training."""

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: float
    """Peak learning rate."""
    weight_decay: float = 0.0
    """Weight decay: decoupled for adamw (Loshchilov and Hutter, ICLR 2019), an L2 penalty for adam and sgd."""
    betas: tuple[float, float] = _BETAS
    """Decay rates of the moment estimates of adamw and adam."""
    eps: float = _EPS
    momentum: float = 0.0
    """Momentum of sgd."""
    nesterov: bool = False
    """Whether sgd uses Nesterov momentum."""
    schedule: Literal["onecycle", "cosine", "whole_cosine", "constant"] = "constant"
    """Learning-rate schedule. onecycle includes its own warm-up. cosine decays from `lr` to `floor` after the warm-up.
    whole_cosine decays over all steps, and the warm-up replaces its beginning, as in DEQ-Transformer's release."""
    floor: float = 0.0
    """Learning rate that the cosine schedules reach one step after the last."""
    warmup: int = 0
    """Number of warm-up steps, over which the learning rate rises linearly to `lr`."""
    clip: float | None = None
    """Maximum 2-norm of the gradient over all parameters; larger gradients are scaled down to it."""

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
            raise ValueError(
                f"floor: belongs to cosine and whole_cosine, from 0 to lr, got {self.floor} with {self.schedule}"
            )
        if self.nesterov and not (self.name == "sgd" and self.momentum):
            raise ValueError(f"nesterov: belongs to sgd with momentum, got {self.name} with {self.momentum}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas: expected two numbers of at least 0 and below 1, got {list(self.betas)}")
        for name in ("eps", "momentum"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name}: expected a number of at least 0, got {getattr(self, name)}")
        if self.momentum and self.name != "sgd":
            raise ValueError(f"momentum: belongs to sgd; {self.name} has betas, got momentum {self.momentum}")
        if self.name == "sgd" and (self.betas, self.eps) != (_BETAS, _EPS):
            raise ValueError(f"betas and eps: belong to adamw and adam; sgd has momentum, got {self.betas}, {self.eps}")


@dataclass(frozen=True, kw_only=True)
class Every:
    """How often training logs, saves and evaluates, in steps."""

    log: int = 1
    """Steps per row of the history; a row has the means over its steps."""
    checkpoint: int = 100
    """Steps between checkpoints."""
    evaluate: int | None = None
    """Steps between evaluations; None evaluates only at the end."""

    def __post_init__(self) -> None:
        if self.log < 1 or self.checkpoint < 1 or (self.evaluate is not None and self.evaluate < 1):
            raise ValueError(f"every: expected at least 1 step (evaluate may be null), got {self}")
