"""The `flow` section of params.yaml as dataclasses: every number of the optical-flow pipeline, with its meaning.

A key that is not here, or of another type, stops every command before it does any work.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from deq_core.experiment.config import ConfigError, Kind, Name, Seed, require_keys
from deq_core.experiment.config.layer import LayerConfig, StopConfig
from deq_core.experiment.config.plot import Plot
from deq_core.experiment.config.recipe import Recipe
from deq_core.experiment.data.registry import ReleasedSets
from deq_flow.data.mini.write import MiniConfig
from deq_flow.data.mixes import MemberConfig
from deq_flow.inference_params import Reuse


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
    side: int | None = None
    """Longer side of the largest frames that the trained network is good for, pixels; None is any. The demo reduces
    larger ones to it."""
    head: int | None = None
    """Inner channels of the flow head; None is those of the size. Version 1 of the release has 256 at every size."""

    def __post_init__(self) -> None:
        if self.chaining != "sliced" and not self.correction:
            raise ConfigError("model: chaining: there is nothing to chain without a correction; leave it out")


@dataclass(frozen=True, kw_only=True)
class UnrolledModel:
    """A RAFT network: the update cell unrolled and differentiated through every iteration."""

    kind: Literal["unrolled"] = "unrolled"
    name: str
    """A name that `deq_flow.build` knows, such as raft-mini."""
    steps: int
    """Iterations of the training forward pass; each is supervised."""


Model = Annotated[EquilibriumModel | UnrolledModel, Kind]
Data = Annotated[MiniConfig | ReleasedSets, Kind]


@dataclass(frozen=True, kw_only=True)
class Train(Recipe):
    """The recipe of one stage of training: what is trained on, for how long, and how."""

    mix: tuple[MemberConfig, ...]
    """Training sets, how often each, and their augmentation."""
    gamma: float = 0.8
    """Weight of an earlier prediction against the next one in the sequence loss."""
    freeze_batch_norm: bool = False
    """Keeps batch normalisation at its running statistics, as the release does in every stage after FlyingChairs."""
    noise: float = 0.0
    """Both frames get Gaussian noise whose standard deviation is drawn for each batch, up to this, of 255."""
    workers: int = 0
    """Processes that load and augment data, for each training process."""
    cache: bool = False
    """Whether decoded training pairs stay in memory; for small sets."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.workers < 0:
            raise ValueError(f"train: workers must be at least 0, got {self.workers}")
        if self.noise < 0:
            raise ValueError(f"train: noise must be at least 0, got {self.noise}")
        if not self.mix:
            raise ValueError("train: mix must name at least one training set")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A stage of the curriculum: its networks, each with a recipe, from the weights of the stage before."""

    methods: tuple[Name, ...]
    """Keys of `model` and `train` that are trained and evaluated."""
    model: dict[Name, Model]
    train: dict[Name, Train]

    def __post_init__(self) -> None:
        for place, known in (("model", self.model), ("train", self.train)):
            require_keys("methods", self.methods, place, known)


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """How trained models and baselines are measured."""

    sets: tuple[str, ...] = ("sintel_clean", "sintel_final", "kitti", "motorcycle")
    """Sets with ground truth; see `sets.SETS`."""
    stop: StopConfig | None = None
    """Stop of the equilibrium solve at test time; None is each model's own."""
    unrolled_steps: int | None = None
    """Iterations of unrolled models at test time; None is each model's own."""
    sweep: int
    """Error and residual are also measured after each iteration up to this one."""
    batch_size: int = 8
    example: int = 0
    """Index of the pair of the first set that the example figure shows."""
    threads: int = 1

    def __post_init__(self) -> None:
        if not self.sets or len(set(self.sets)) != len(self.sets):
            raise ValueError(f"evaluate.sets: expected at least one, each once, got {list(self.sets)}")
        if min(self.sweep, self.batch_size, self.threads) < 1:
            raise ValueError("evaluate: sweep, batch_size and threads must be at least 1")


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """OpenCV's DIS flow (Kroeger et al., ECCV 2016), the off-the-shelf peer."""

    preset: Literal["ultrafast", "fast", "medium"]
    finest_scale: int | None = None
    """Finest level of the pyramid that is solved, 0 being full resolution; None keeps the preset's."""


@dataclass(frozen=True, kw_only=True)
class Curriculum:
    """The stages after FlyingChairs, in their order (Teed and Deng, ECCV 2020, section 4)."""

    things: Stage
    sintel: Stage
    kitti: Stage

    def __post_init__(self) -> None:
        for earlier, later in (("things", "sintel"), ("sintel", "kitti")):
            require_keys(
                f"{later}.methods", getattr(self, later).methods, f"{earlier}.methods", getattr(self, earlier).methods
            )


@dataclass(frozen=True, kw_only=True)
class Flow:
    """One profile of the optical-flow pipeline."""

    seeds: tuple[Seed, ...]
    methods: tuple[Name, ...]
    """Keys of `model` and `train` that are trained on FlyingChairs and evaluated."""
    data: Data
    model: dict[Name, Model]
    train: dict[Name, Train]
    curriculum: Curriculum
    evaluate: Evaluate
    reuse: Reuse
    baselines: dict[Name, Baseline]
    plot: Plot

    def __post_init__(self) -> None:
        for place, known in (("model", self.model), ("train", self.train)):
            require_keys("methods", self.methods, place, known)
        require_keys("curriculum.things.methods", self.curriculum.things.methods, "methods", self.methods)
        require_keys("reuse.methods", self.reuse.methods, "methods", self.methods)
        if not self.seeds:
            raise ValueError("seeds: expected at least one seed")
