"""What recipes of training have in common: steps, batches, processes; and of equilibrium models, how each is solved."""

from dataclasses import dataclass, field, replace
from typing import Literal

import torch

import deq_core as deq
from deq_core.experiment.config.optim import Every, OptimConfig
from deq_core.experiment.seeding import derive


@dataclass(frozen=True, kw_only=True)
class Updates:
    """What the training loop does, update by update."""

    steps: int
    """Updates."""
    optim: OptimConfig
    every: Every = field(default_factory=Every)
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of autocast; float16 needs device cuda."""
    accumulate: int = 1
    """Batches, one after the other, that share a process's part of the samples, to save memory."""
    ema: float | None = None
    """Decay of a moving average of the weights, which then is what is evaluated and kept. Batch normalisation that is
    not frozen has statistics of its own then, for which each evaluation passes 50 batches more through the network."""

    def __post_init__(self) -> None:
        counts = [name for name in ("steps", "batch_size", "processes", "accumulate", "threads") if hasattr(self, name)]
        if small := [f"{name} {getattr(self, name)}" for name in counts if getattr(self, name) < 1]:
            raise ValueError(f"recipe: expected {', '.join(counts)} of at least 1, got {', '.join(small)}")
        if self.ema is not None and not 0 <= self.ema < 1:
            raise ValueError(f"ema: expected a decay of at least 0 and below 1, got {self.ema}")


@dataclass(frozen=True, kw_only=True)
class Recipe(Updates):
    """How a model is trained, whatever its data and task."""

    batch_size: int
    """Samples of one update, over all processes and accumulated batches."""
    device: Literal["cpu", "cuda"] = "cpu"
    processes: int = 1
    """Processes that share an update's samples; on cuda each has a device of its own."""
    threads: int = 1
    """CPU threads of each process; part of the recipe because results are bitwise equal only at an equal count."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size % self.batches:
            raise ValueError(
                f"recipe: batch_size {self.batch_size} is not a multiple of processes x accumulate = "
                f"{self.processes} x {self.accumulate}: their batches must be of one size"
            )

    @property
    def batches(self) -> int:
        """Batches of one update, over all processes."""
        return self.processes * self.accumulate

    @property
    def micro_batch(self) -> int:
        """Samples that one process passes through the network at a time."""
        return self.batch_size // self.batches


@dataclass(frozen=True, kw_only=True)
class Pretraining:
    """The first updates: a few applications of f, unrolled, instead of a solve."""

    steps: int
    """Updates."""
    depth: tuple[int, int]
    """Least and most applications; each update draws its own, so that the network is good after any."""

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
    """Added to the weight after each `growth_every` updates."""
    growth_every: int = 1
    growth_counts: Literal["after_pretraining", "all"] = "after_pretraining"
    """Which updates `growth_every` counts: those after the pretraining, as for MDEQ; or all, as for DEQ-Transformer,
    whose weight does not grow in the pretraining all the same."""
    until: int | None = None
    """Update from which on there is no penalty."""
    probes: int = 1
    """Random vectors of Hutchinson's estimate."""

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
        """The weight at update `step`, counted from 0, after `pretraining` updates of pretraining."""
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
    """What one update does with the equilibrium."""

    depth: int | None
    """Applications of f, unrolled, instead of a solve."""
    change: int
    """Evaluations that its solve has more than usual; less where negative."""
    penalty: float
    """Weight of the Jacobian's penalty; 0 is none."""

    def stop(self, usual: deq.Stop) -> deq.Stop:
        """The stop of the update's solve."""
        return replace(usual, max_steps=max(1, usual.max_steps + self.change))


@dataclass(frozen=True, kw_only=True)
class EquilibriumRecipe(Recipe):
    """How an equilibrium model is trained: unrolled at first, then through its fixed point."""

    pretraining: Pretraining | None = None
    jacobian: JacobianPenalty | None = None
    jitter: tuple[int, int] = (0, 0)
    """Least and greatest random change of the solve's evaluations, drawn anew for each update."""
    jittered: Literal["penalised", "all"] = "penalised"
    """Which updates have such a change: those with a penalty, as for MDEQ, or all, as for DEQ-Transformer."""

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
        """Updates of pretraining."""
        return 0 if self.pretraining is None else self.pretraining.steps

    def plan(self, seed: int, step: int) -> Plan:
        """What update `step` (from 0) does: a function of the two numbers, so the same in every process."""
        draws = torch.Generator().manual_seed(derive(seed, step))
        weight = 0.0 if self.jacobian is None else self.jacobian.at(step, self.unrolled_updates)
        if self.jacobian is not None and weight and float(torch.rand((), generator=draws)) >= self.jacobian.chance:
            weight = 0.0
        if self.pretraining is not None and step < self.pretraining.steps:
            return Plan(between(self.pretraining.depth, draws), 0, weight)
        changed = self.jitter != (0, 0) and (weight > 0 or self.jittered == "all")
        return Plan(None, between(self.jitter, draws) if changed else 0, weight)


def between(bounds: tuple[int, int], draws: torch.Generator) -> int:
    """A whole number within bounds, both included."""
    return int(torch.randint(bounds[0], bounds[1] + 1, (), generator=draws))
