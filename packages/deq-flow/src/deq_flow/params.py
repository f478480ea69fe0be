"""Configuration of the training of a flow network in params.yaml: the network, its data and its recipe."""

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
    """A DEQ-Flow network: the fixed point of an update cell."""

    kind: Literal["deq"] = "deq"
    name: str
    """Name of a network in `deq_flow.NAMES`, such as deq-flow-mini."""
    layer: LayerConfig
    """Solver, stop and gradient of a solve. A training with `stabilise` draws its own numbers of steps."""
    correction: tuple[int, ...] = ()
    """Evaluations whose states are supervised besides the last: sparse fixed-point correction."""
    chaining: Literal["indexing", "sliced", "resumed"] = "sliced"
    """Whether one solve records the corrected states, or each slice starts after the phantom steps of the last
    ("sliced"), or from the state before them ("resumed")."""
    leak: float = 0.0
    """Share of the flow, 0 to 1, that a step removes: flow' = (1 - leak) flow + change. Only above 0 does the update
    have a fixed point that every start leads to; the release has 0. Stored with the weights, which need it."""
    flow_gradient: Literal["detached", "full"] = "detached"
    """Whether gradients pass through the flow that a step starts from."""
    scales: Scales | None = None
    """Copies of a pair on which the trained network estimates flow, coarse to fine, wherever it is used; None is the
    original size alone."""
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
    """Name of a network in `deq_flow.NAMES`, such as raft-mini."""
    steps: int
    """Number of iterations in training; each is supervised."""
    scales: Scales | None = None
    """As for an equilibrium network."""


Model = Annotated[EquilibriumModel | UnrolledModel, Kind]


@dataclass(frozen=True, kw_only=True)
class Contraction:
    """The penalty of `deq_core.nn.contraction`, along the step that the solve would take next."""

    weight: float = 1.0
    begin: float = 0.6
    """Share of the training after which the penalty begins; from the first step on it would prevent learning."""
    ramp: float = 0.1
    """Share of the training over which the weight rises to its full value."""
    bound: float = 0.7
    """Expansion ratio up to which there is no penalty."""
    step: float = 0.05
    """Length of the test step, relative to the state."""
    parts: tuple[float, float] = (1.0, 3.0)
    """Weights of hidden state and flow, each relative to its own length."""
    floor: float = 0.05
    """Least root mean square of the flow, in cells, for its relative length."""

    def at(self, progress: float) -> float:
        """The weight when the share `progress` of the training is done."""
        grown = (progress - self.begin) / self.ramp if self.ramp else float(progress >= self.begin)
        return self.weight * min(max(grown, 0.0), 1.0)


@dataclass(frozen=True, kw_only=True)
class Stabilise:
    """Random choices of each training step, by which every start comes to lead to the fixed point."""

    segments: RandomSegments = field(default_factory=RandomSegments)
    """Numbers of steps of the solves; each solve continues from the one before, and is supervised."""
    share: float = 0.3
    """Share of the samples whose state is replaced before a later solve."""
    begin: float = 0.1
    """Share of the training after which states are replaced."""
    move: MoveMaps = field(default_factory=lambda: MoveMaps(shift=0.12, scale=(0.0, 0.4), noise=(0.0, 0.5)))
    """How a sample's own hidden state and flow are moved; the noise of the flow is in cells."""
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
    """Training at two scales, with flow at the finer one relative to that of the coarser one; see `models.scales`."""

    share: float = 0.6
    """Share of the batches with two scales; flow of the others is relative to zero, as at the coarsest scale."""
    enlarged: float = 0.0
    """Share of these batches whose finer scale is half of the pairs, enlarged by 2. The others have all pairs, at half
    their size, as the coarser scale."""
    disturbed: float = 0.2
    """Share of the samples whose coarse flow is disturbed, so that the finer scale learns to correct it."""
    disturbance: float = 4.0
    """Greatest standard deviation of the smooth noise that disturbs it, pixels."""

    def __post_init__(self) -> None:
        shares = (self.share, self.enlarged, self.disturbed)
        if not (all(0 <= share <= 1 for share in shares) and self.disturbance >= 0):
            raise ValueError(f"coarser: expected shares from 0 to 1 and a disturbance of at least 0 pixels, got {self}")


@dataclass(frozen=True, kw_only=True)
class Train(Recipe):
    """The recipe of one stage of training."""

    mix: tuple[MemberConfig, ...]
    """Training sets with their weights and augmentation."""
    gamma: float = 0.8
    """Weight of each prediction relative to the next one in the sequence loss."""
    freeze_batch_norm: bool = False
    """Keeps batch normalisation at its running statistics, as the release does in every stage after FlyingChairs."""
    held_out: HeldOut | None = None
    """Pairs of the training sets that are held out for validation; None validates on the validation split of
    FlyingChairs."""
    stabilise: Stabilise | None = None
    """Training of an equilibrium network towards a fixed point that every start leads to; None supervises the states
    of one solve from zero, as released."""
    coarser: Coarser | None = None
    """Training at two scales; None trains at one, as released."""
    noise: float = 0.0
    """Greatest standard deviation, of 255, of Gaussian noise on both frames; it is drawn for each batch."""
    workers: int = 0
    """Number of processes that load and augment data, for each training process."""
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
    """A network and its recipe: the contents of a file for one training."""

    model: Model
    train: Train


def named(
    name: str, model: EquilibriumModel | UnrolledModel, recipe: Train
) -> tuple[EquilibriumModel | UnrolledModel, Train]:
    """Network and recipe with the architecture of that name.

    A RAFT in place of an equilibrium network gets the maximum number of steps of its solve, and no `stabilise`.

    Raises:
        ConfigError: there is no such network, or it is an equilibrium network and `model` has no layer to solve it.
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
