"""Configuration of inference and evaluation in params.yaml."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from deq_core.experiment.config import Once
from deq_core.experiment.config.layer import Solver, StopConfig
from deq_flow.config import Scales

Start = Literal["cold", "warm", "reuse", "reuse_interpolated"]
"""Initialisation of a pair from the previous pair of a video; see `evaluation.sequences.start_from`."""


@dataclass(frozen=True, kw_only=True)
class Inference:
    """Options of inference; None means the network's own."""

    solver: Solver | None = None
    """Solver of an equilibrium network."""
    stop: StopConfig | None = None
    """Stop of an equilibrium network, at each scale."""
    steps: int | None = None
    """Number of iterations of an unrolled network."""
    scales: Scales | Literal["one"] | None = None
    """Copies of a pair on which flow is estimated, coarse to fine; "one" is the original size alone."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of autocast. RAFT's submission to Sintel was made in float16."""

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One solver at many numbers of iterations and tolerances, all from a single solve of each pair."""

    solver: Solver | None = None
    """Solver of an equilibrium network; None is its own."""
    iterations: tuple[int, ...]
    """Numbers of iterations after which the error is measured."""
    tolerances: tuple[float, ...] = ()
    """Tolerances, for an equilibrium network, at which the error is measured: for the result of a solve with that
    tolerance and the greatest number of iterations."""
    relative: bool = True
    """Whether the residual is relative to the norm of f(z)."""
    scales: Scales | Literal["one"] | None = None
    """As in `Inference`. The sweep is at the finest scale; coarser ones are solved to the last iteration."""

    def __post_init__(self) -> None:
        if not self.iterations or any(earlier >= later for earlier, later in pairwise((0, *self.iterations))):
            raise ValueError(f"iterations: expected ascending numbers of at least 1, got {list(self.iterations)}")
        if any(tolerance <= 0 for tolerance in self.tolerances):
            raise ValueError(f"tolerances: expected numbers above 0, got {list(self.tolerances)}")


@dataclass(frozen=True, kw_only=True)
class Measure:
    """Evaluation of a checkpoint on published sets. The default is the protocol of the releases with cold starts."""

    inference: Inference = field(default_factory=Inference)
    sweeps: dict[str, Sweep] = field(default_factory=dict)
    """Sweeps by name, in the precision of `inference`."""
    batch_size: int = 1


@dataclass(frozen=True, kw_only=True)
class Starts:
    """Comparison of initialisations of the frames of a video, at several budgets."""

    starts: Once[Start] = ("cold", "warm", "reuse")
    budgets: dict[str, Inference] = field(default_factory=lambda: {"own": Inference()})
    """Options of inference by a name for the tables; the videos are run with each."""

    def __post_init__(self) -> None:
        if not self.starts:
            raise ValueError("starts: expected at least one")
        if not self.budgets:
            raise ValueError("budgets: expected at least one")
