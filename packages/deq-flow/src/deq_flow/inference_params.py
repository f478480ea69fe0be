"""How trained networks are run and compared at test time, as params.yaml writes it."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from deq_core.experiment.config import Once
from deq_core.experiment.config.layer import Solver, StopConfig
from deq_flow.config import Scales

Start = Literal["cold", "warm", "reuse", "reuse_interpolated"]
"""What a pair starts from, given the pair before it in a video; see `evaluation.sequences.start_from`."""


@dataclass(frozen=True, kw_only=True)
class Inference:
    """How a network is run; what is None is as the network itself has it."""

    solver: Solver | None = None
    """Of an equilibrium network."""
    stop: StopConfig | None = None
    """Of an equilibrium network."""
    steps: int | None = None
    """Iterations of an unrolled network."""
    scales: Scales | Literal["one"] | None = None
    """Copies of a pair that the network is run over, coarse to fine, with this stop at each; "one" is the pair as
    it is, alone."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of autocast. RAFT's submission to Sintel was made in float16."""

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """One solver at many numbers of iterations and tolerances, all from a single solve of each pair."""

    solver: Solver | None = None
    """Of an equilibrium network; None is its own."""
    iterations: tuple[int, ...]
    """The error is measured after each of these."""
    tolerances: tuple[float, ...] = ()
    """And, for an equilibrium network, where the residual first comes down to each of these, or after the most
    iterations where it never does: what a solve with that tolerance returns."""
    relative: bool = True
    """Whether the residual is relative to the norm of f(z)."""
    scales: Scales | Literal["one"] | None = None
    """As in `Inference`. Of several, points are of the finest; the coarser ones are solved to the last iteration."""

    def __post_init__(self) -> None:
        if not self.iterations or any(earlier >= later for earlier, later in pairwise((0, *self.iterations))):
            raise ValueError(f"iterations: expected ascending numbers of at least 1, got {list(self.iterations)}")
        if any(tolerance <= 0 for tolerance in self.tolerances):
            raise ValueError(f"tolerances: expected numbers above 0, got {list(self.tolerances)}")


@dataclass(frozen=True, kw_only=True)
class Measure:
    """How a checkpoint is measured on published sets. The default is the protocol of the releases, cold."""

    inference: Inference = field(default_factory=Inference)
    sweeps: dict[str, Sweep] = field(default_factory=dict)
    """Further solves by name, in the precision of `inference`."""
    batch_size: int = 1


@dataclass(frozen=True, kw_only=True)
class Starts:
    """Which starts of the frames of a video are compared, and at which budgets."""

    starts: Once[Start] = ("cold", "warm", "reuse")
    budgets: dict[str, Inference] = field(default_factory=lambda: {"own": Inference()})
    """How the network is run, by a name for the tables; each is a run of its own over the videos."""

    def __post_init__(self) -> None:
        if not self.starts:
            raise ValueError("starts: expected at least one")
        if not self.budgets:
            raise ValueError("budgets: expected at least one")
