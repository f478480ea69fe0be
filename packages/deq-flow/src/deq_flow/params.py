"""The `flow` section of params.yaml as dataclasses: every number of the optical-flow pipeline, with its meaning.

A key that is not here, or of another type, stops every command before it does any work.
"""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from deq_core.experiment.config import Kind
from deq_core.experiment.optim import OptimConfig
from deq_core.experiment.solving import LayerConfig, StopConfig
from deq_core.experiment.training import Every
from deq_flow.data.augment import AugmentConfig
from deq_flow.data.mini import MiniConfig


@dataclass(frozen=True, kw_only=True)
class EquilibriumModel:
    """A DEQ-Flow network: one update cell solved for its fixed point."""

    kind: Literal["deq"] = "deq"
    name: str
    """A name that `deq_flow.build` knows, such as deq-flow-mini."""
    layer: LayerConfig
    """Solver, stop and gradient of the training solve."""
    correction: tuple[int, ...] = ()
    """Evaluations whose states are supervised besides the last: sparse fixed-point correction."""
    chaining: Literal["indexing", "sliced"] = "sliced"
    """Whether corrected states are recorded in one solve, or each slice starts from the last one's gradient steps."""
    flow_gradient: Literal["detached", "full"] = "detached"
    """Whether gradients flow through the flow that a step starts from."""


@dataclass(frozen=True, kw_only=True)
class UnrolledModel:
    """A RAFT network: the update cell unrolled and differentiated through every iteration."""

    kind: Literal["unrolled"] = "unrolled"
    name: str
    """A name that `deq_flow.build` knows, such as raft-mini."""
    steps: int
    """Iterations of the training forward pass; each is supervised."""


Model = Annotated[EquilibriumModel | UnrolledModel, Kind]


@dataclass(frozen=True, kw_only=True)
class Train:
    """The training recipe shared by all models, so that they are compared at equal steps and data."""

    steps: int
    batch_size: int
    optim: OptimConfig
    augment: AugmentConfig
    gamma: float = 0.8
    """Weight of an earlier prediction against the next one in the sequence loss."""
    every: Every = field(default_factory=Every)
    threads: int = 1
    """CPU threads of the job; part of the recipe because results are bitwise equal only at an equal count."""
    workers: int = 0
    """Processes that load and augment data."""
    cache: bool = False
    """Whether decoded training pairs stay in memory; for small sets."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch_size < 1 or self.threads < 1 or self.workers < 0:
            raise ValueError(
                "train: steps, batch_size and threads must be at least 1 and workers at least 0, got "
                f"{self.steps}, {self.batch_size}, {self.threads} and {self.workers}"
            )


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """How trained models and baselines are measured."""

    stop: StopConfig
    """Stop of the equilibrium solve at test time."""
    unrolled_steps: int
    """Iterations of unrolled models at test time."""
    sweep: int
    """Error and residual are also measured after each iteration up to this one."""
    batch_size: int = 8
    example: int = 0
    """Index of the pair of Sintel clean that the example figure shows."""
    threads: int = 1


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """OpenCV's DIS flow (Kroeger et al., ECCV 2016), the off-the-shelf peer."""

    preset: Literal["ultrafast", "fast", "medium"]
    finest_scale: int | None = None
    """Finest level of the pyramid that is solved, 0 being full resolution; None keeps the preset's."""


@dataclass(frozen=True, kw_only=True)
class Plot:
    """Look of the figures."""

    dpi: int = 120
    smoothing: int = 20
    """Training steps averaged for one point of a learning curve."""


@dataclass(frozen=True, kw_only=True)
class Flow:
    """One profile of the optical-flow pipeline."""

    seeds: tuple[int, ...]
    methods: tuple[str, ...]
    """Keys of `model` that are trained and evaluated."""
    data: MiniConfig
    model: dict[str, Model]
    train: Train
    evaluate: Evaluate
    baselines: dict[str, Baseline]
    plot: Plot

    def __post_init__(self) -> None:
        unknown = sorted(set(self.methods) - set(self.model))
        if unknown:
            raise ValueError(f"methods: no such key in `model`: {', '.join(unknown)}; known: {', '.join(self.model)}")
        if not self.seeds:
            raise ValueError("seeds: expected at least one seed")
