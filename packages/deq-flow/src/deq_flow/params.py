"""What a flow network is trained with, as params.yaml writes it: which network, on what, for how long, and how."""

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

from deq_core.experiment.config import ConfigError, Kind
from deq_core.experiment.config.layer import LayerConfig
from deq_core.experiment.config.recipe import Recipe
from deq_core.nn import MoveMaps, RandomSegments
from deq_flow.config import Scales
from deq_flow.data.held_out import HeldOut
from deq_flow.data.mixes import MemberConfig
from deq_flow.models.build import NAMES, is_unrolled


@dataclass(frozen=True, kw_only=True)
class EquilibriumModel:
    """A DEQ-Flow network: one update cell solved for its fixed point."""

    kind: Literal["deq"] = "deq"
    name: str
    """A name that `deq_flow.build` knows, such as deq-flow-mini."""
    layer: LayerConfig
    """Solver, stop and gradient of a solve. A training with `stabilise` draws its own numbers of steps."""
    correction: tuple[int, ...] = ()
    """Evaluations whose states are supervised besides the last: sparse fixed-point correction."""
    chaining: Literal["indexing", "sliced"] = "sliced"
    """Whether corrected states are recorded in one solve, or each slice starts from the last one's gradient steps."""
    leak: float = 0.0
    """What a step takes off the flow it starts from, 0 to 1: flow' = (1 - leak) flow + change. Only above 0 the update
    has a fixed point that it returns to from any start; 0 is the release's. Stored with the weights, which need it."""
    flow_gradient: Literal["detached", "full"] = "detached"
    """Whether gradients flow through the flow that a step starts from."""
    scales: Scales | None = None
    """Copies of a pair that the trained network sees one after the other, coarse to fine, wherever it is used; None is
    the pair itself alone."""
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
    scales: Scales | None = None
    """As for an equilibrium network."""


Model = Annotated[EquilibriumModel | UnrolledModel, Kind]


@dataclass(frozen=True, kw_only=True)
class Contraction:
    """The penalty of `deq_core.nn.contraction`, along the step that the solve would take next."""

    weight: float = 1.0
    begin: float = 0.6
    """Share of the training after which it sets in: from the first step on it keeps a network from learning."""
    ramp: float = 0.1
    """Share of the training over which it grows to its weight."""
    bound: float = 0.7
    """Ratio that is free."""
    step: float = 0.05
    """Length of the step that is tried, relative to the state."""
    parts: tuple[float, float] = (1.0, 3.0)
    """Weights of hidden state and flow, each relative to its own length."""
    floor: float = 0.05
    """Cells; flow whose root mean square is below it counts as if it had this one."""

    def at(self, progress: float) -> float:
        """The weight when the share `progress` of the training is done."""
        grown = (progress - self.begin) / self.ramp if self.ramp else float(progress >= self.begin)
        return self.weight * min(max(grown, 0.0), 1.0)


@dataclass(frozen=True, kw_only=True)
class Stabilise:
    """What is drawn anew at every training step."""

    segments: RandomSegments = field(default_factory=RandomSegments)
    """Steps of each solve; every one begins where the one before ended, and is supervised."""
    share: float = 0.3
    """Of the samples whose later solves begin from another state."""
    begin: float = 0.1
    """Share of the training after which that sets in."""
    move: MoveMaps = field(default_factory=lambda: MoveMaps(shift=0.12, scale=(0.0, 0.4), noise=(0.0, 0.5)))
    """How a sample's own state is moved, hidden state and flow, the latter's noise in cells."""
    flow: float = 2.5
    """Greatest standard deviation of the smooth flow of a random state, cells."""
    contraction: Contraction | None = field(default_factory=Contraction)

    def __post_init__(self) -> None:
        for name, value in (("share", self.share), ("begin", self.begin)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {value}")
        if self.flow < 0:
            raise ValueError(f"flow must be at least 0 cells, got {self.flow}")


@dataclass(frozen=True, kw_only=True)
class Coarser:
    """Batches are seen at two scales, at the finer one relative to the coarser one's flow; see `models.scales`."""

    share: float = 0.6
    """Of the batches; the others are relative to zero, as the coarsest scale is."""
    enlarged: float = 0.0
    """Share of these whose finer scale is half of the pairs enlarged by 2. Of the rest the coarser one is all pairs at
    half their size."""
    disturbed: float = 0.2
    """Share of the samples whose coarse flow is disturbed, so that the finer scale learns to mend what it is given."""
    disturbance: float = 4.0
    """Greatest standard deviation of the smooth noise that does so, pixels."""

    def __post_init__(self) -> None:
        shares = (self.share, self.enlarged, self.disturbed)
        if not (all(0 <= share <= 1 for share in shares) and self.disturbance >= 0):
            raise ValueError(f"coarser: expected shares from 0 to 1 and a disturbance of at least 0 pixels, got {self}")


@dataclass(frozen=True, kw_only=True)
class Train(Recipe):
    """The recipe of one stage of training: what is trained on, for how long, and how."""

    mix: tuple[MemberConfig, ...]
    """Training sets, how often each, and their augmentation."""
    gamma: float = 0.8
    """Weight of an earlier prediction against the next one in the sequence loss."""
    freeze_batch_norm: bool = False
    """Keeps batch normalisation at its running statistics, as the release does in every stage after FlyingChairs."""
    held_out: HeldOut | None = None
    """Pairs of the training sets themselves that validation is on, and training is not; None validates on the split of
    FlyingChairs for it."""
    stabilise: Stabilise | None = None
    """How an equilibrium network is trained towards a fixed point that every start leads to; None trains the states of
    one solve from zero, as released."""
    coarser: Coarser | None = None
    """How often a batch is seen at half its size first; None never, as released."""
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
class Training:
    """A network and how it is trained: what a file for one training has."""

    model: Model
    train: Train


def named(
    name: str, model: EquilibriumModel | UnrolledModel, recipe: Train
) -> tuple[EquilibriumModel | UnrolledModel, Train]:
    """Network and recipe with the sizes of that name: a RAFT has as many steps as a solve had at most.

    Raises:
        ConfigError: there is no such network, or it is solved for a fixed point, of which `model` does not say how.
    """
    if name not in NAMES:
        raise ConfigError(f"network: expected one of {', '.join(NAMES)}, got {name!r}")
    if not is_unrolled(name):
        if isinstance(model, UnrolledModel):
            raise ConfigError(f"network: {name} needs a recipe with a model of kind deq, whose layer solves it")
        return replace(model, name=name), recipe
    if isinstance(model, UnrolledModel):
        return replace(model, name=name), recipe
    unrolled = UnrolledModel(name=name, steps=model.layer.stop.max_steps, scales=model.scales)
    return unrolled, replace(recipe, stabilise=None)
