"""Training recipes shared by all domains: updates, batches and processes; for equilibrium models also the solves."""

from dataclasses import dataclass, field, replace
from typing import Literal

import torch

import deq_core as deq
from deq_core.experiment.config.optim import Every, OptimConfig
from deq_core.experiment.seeding import derive


@dataclass(frozen=True, kw_only=True)
class Updates:
    """Number of updates, optimiser, precision and averaging of a training."""

    steps: int
    """Number of updates."""
    optim: OptimConfig
    every: Every = field(default_factory=Every)
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of autocast; float16 needs device cuda."""
    accumulate: int = 1
    """Number of micro-batches per update in each process (gradient accumulation), to save memory."""
    ema: float | None = None
    """Decay of an exponential moving average of the weights. The averaged weights are then evaluated and kept. To
    estimate statistics for batch normalisation that is not frozen, each evaluation runs 50 additional batches."""

    def __post_init__(self) -> None:
        counts = [name for name in ("steps", "batch_size", "processes", "accumulate", "threads") if hasattr(self, name)]
        if small := [f"{name} {getattr(self, name)}" for name in counts if getattr(self, name) < 1]:
            raise ValueError(f"recipe: expected {', '.join(counts)} of at least 1, got {', '.join(small)}")
        if self.ema is not None and not 0 <= self.ema < 1:
            raise ValueError(f"ema: expected a decay of at least 0 and below 1, got {self.ema}")


@dataclass(frozen=True, kw_only=True)
class Recipe(Updates):
    """Training recipe of a model, whatever its data and task."""

    batch_size: int
    """Number of samples per update, over all processes and accumulated batches."""
    device: Literal["cpu", "cuda"] = "cpu"
    processes: int = 1
    """Number of processes that share the samples of an update; on cuda each has its own device."""
    threads: int = 1
    """CPU threads per process. Part of the recipe because results are bitwise equal only for equal thread counts."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size % self.batches:
            raise ValueError(
                f"recipe: batch_size {self.batch_size} is not a multiple of processes x accumulate = "
                f"{self.processes} x {self.accumulate}: their batches must be of one size"
            )

    @property
    def batches(self) -> int:
        """Number of micro-batches per update, over all processes."""
        return self.processes * self.accumulate

    @property
    def micro_batch(self) -> int:
        """Number of samples that one process passes through the network at a time."""
        return self.batch_size // self.batches


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """Pretraining: the first updates unroll a few applications of f instead of solving for the fixed point."""

    steps: int
    """Number of pretraining updates."""
    depth: tuple[int, int]
    """Minimum and maximum number of applications. Each update draws one, so that the network works at any depth."""

    def __post_init__(self) -> None:
        if self.steps < 0 or not 1 <= self.depth[0] <= self.depth[1]:
            raise ValueError(f"pretraining: expected steps of at least 0 and 1 <= least <= most, got {self}")


@dataclass(frozen=True, kw_only=True)
class JacobianPenalty:
    """Regularisation of the Jacobian at the solution (Bai, Koltun & Kolter, ICML 2021)."""

    weight: float
    chance: float = 1.0
    """Probability that an update has the penalty."""
    pretraining_weight: float = 0.0
    """Weight while pretraining."""
    growth: float = 0.0
    """Amount added to the weight every `growth_every` updates."""
    growth_every: int = 1
    growth_counts: Literal["after_pretraining", "all"] = "after_pretraining"
    """Updates that `growth_every` counts: those after pretraining (MDEQ) or all (DEQ-Transformer). In both cases the
    weight does not grow during pretraining."""
    until: int | None = None
    """Update from which the penalty is off."""
    probes: int = 1
    """Number of random vectors in Hutchinson's estimate."""

    def __post_init__(self) -> None:
        if min(self.weight, self.pretraining_weight, self.growth) < 0 or not 0 <= self.chance <= 1:
            raise ValueError(
                f"jacobian: expected weights and a growth of at least 0 and a chance from 0 to 1, got {self}"
            )
        if self.growth_every < 1 or self.probes < 1:
            raise ValueError(f"jacobian: expected growth_every and probes of at least 1, got {self}")
        if not self.growth and (self.growth_every, self.growth_counts) != (1, "after_pretraining"):
            raise ValueError(f"jacobian: growth_every and growth_counts belong to a growth, got {self}")

    def at(self, step: int, pretraining: int) -> float:
        """The weight at update `step` (from 0), where the first `pretraining` updates are pretraining."""
        if self.until is not None and step >= self.until:
            return 0.0
        if step < pretraining:
            return self.pretraining_weight
        counted = (step - pretraining) // self.growth_every
        if self.growth_counts == "all":
            counted = step // self.growth_every - pretraining // self.growth_every
        return self.weight + self.growth * counted


@dataclass(frozen=True)
class Plan:
    """How one update treats the equilibrium."""

    depth: int | None
    """Number of unrolled applications of f; None solves for the fixed point."""
    change: int
    """Change of the solve's maximum number of evaluations; may be negative."""
    penalty: float
    """Weight of the Jacobian penalty; 0 turns it off."""

    def stop(self, usual: deq.Stop) -> deq.Stop:
        """Stop of the update's solve."""
        return replace(usual, max_steps=max(1, usual.max_steps + self.change))


@dataclass(frozen=True, kw_only=True)
class EquilibriumRecipe(Recipe):
    """Training recipe of an equilibrium model: optional unrolled pretraining, then training through the fixed point."""

    pretraining: Pretraining | None = None
    jacobian: JacobianPenalty | None = None
    jitter: tuple[int, int] = (0, 0)
    """Range of a random change of the solve's maximum number of evaluations, drawn for each update."""
    jittered: Literal["penalised", "all"] = "penalised"
    """Updates with such a change: those with a penalty (MDEQ) or all (DEQ-Transformer)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.jitter[0] > self.jitter[1]:
            raise ValueError(f"recipe: jitter must be (least, greatest), got {self.jitter}")
        if self.jitter != (0, 0) and self.jittered == "penalised" and self.jacobian is None:
            raise ValueError(
                f"recipe: jitter of penalised updates belongs to a jacobian, got {self.jitter} without one"
            )
        if self.jitter == (0, 0) and self.jittered != "penalised":
            raise ValueError(f"recipe: jittered belongs to a jitter, got {self.jittered} without one")
        if self.jacobian is not None and self.jacobian.pretraining_weight and not self.unrolled_updates:
            raise ValueError(
                "recipe: jacobian.pretraining_weight belongs to a pretraining, got "
                f"{self.jacobian.pretraining_weight} without one"
            )

    @property
    def unrolled_updates(self) -> int:
        """Number of pretraining updates."""
        return 0 if self.pretraining is None else self.pretraining.steps

    def plan(self, seed: int, step: int) -> Plan:
        """The plan of update `step` (from 0); depends only on `seed` and `step`, so all processes agree."""
        draws = torch.Generator().manual_seed(derive(seed, step))
        weight = 0.0 if self.jacobian is None else self.jacobian.at(step, self.unrolled_updates)
        if self.jacobian is not None and weight and float(torch.rand((), generator=draws)) >= self.jacobian.chance:
            weight = 0.0
        if self.pretraining is not None and step < self.pretraining.steps:
            return Plan(between(self.pretraining.depth, draws), 0, weight)
        changed = self.jitter != (0, 0) and (weight > 0 or self.jittered == "all")
        return Plan(None, between(self.jitter, draws) if changed else 0, weight)


def between(bounds: tuple[int, int], draws: torch.Generator) -> int:
    """A random integer within `bounds`, both included."""
    return int(torch.randint(bounds[0], bounds[1] + 1, (), generator=draws))
