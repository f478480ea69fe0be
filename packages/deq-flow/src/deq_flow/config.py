"""Configuration of a flow network: its architecture, its solve, and its scales."""

from dataclasses import dataclass, field, fields
from itertools import pairwise
from typing import Any, Literal, get_args, get_origin

import deq_core as deq
from deq_core.experiment.config.layer import OnFailure


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Widths and choices of modules shared by DEQ-Flow and RAFT (Teed & Deng 2020; Bai et al. 2022).

    Attributes:
        encoder: "residual" (blocks of two 3x3 convolutions) or "bottleneck" (RAFT-small)
        stages: channels of the encoder's three stages; the stem has as many as the first
        blocks: number of blocks of each stage; official checkpoints have two
        features: channels of the feature maps that are correlated
        context_norm: normalisation in the context encoder; the feature encoder always has instance normalisation
        hidden, context: channels of the recurrent state and of the injected context
        similarity: "dot": correlation is <f1, f2> / sqrt(C), as released. "cosine": 100 times the cosine between
            features minus their mean over the map; it finds matches even for untrained features, where the dot product
            finds the longest vectors
        levels, radius: correlation pyramid levels, and the radius of the window read from each
        correlation_widths: channels of the motion encoder's correlation branch: a 1x1 convolution, then a 3x3 one if
            there are two widths
        flow_widths: channels of the motion encoder's flow branch: a 7x7 and a 3x3 convolution
        motion: channels of the motion encoder's output, of which the last two are the flow itself
        gru: "separable" (1x5 then 5x1) or "square" (3x3)
        head: inner channels of the flow head; version 1 of DEQ-Flow has 256 at every size
        upsampling: "convex" (learned weights) or "bilinear"
        mask: inner channels of the head that predicts the convex weights
        attention: "global" adds the aggregated motion of GMA (Jiang et al. 2021)
        attention_by: basis of the attention scores: "content", as in every released checkpoint, "position" (offsets in
            rows and columns), or "both"
        attention_positions: size of the table of relative positions, 0 for none; GMA's files have one of 160, which its
            released weights do not use
        scale: pixels per cell of the grid on which flow is estimated: 8, or 4 for small images
        correlation: "all-pairs" stores the correlation volume, "on-the-fly" computes each window when it is read,
            "auto" stores the volume up to `correlation.VOLUME_LIMIT` entries
        dropout: probability that a channel of an encoder's output is zeroed in training
        cell_dropout: probability that an output of the motion encoder's first convolutions is zeroed in training, with
            one mask for all evaluations of a solve; version 1's vdropout
        recompute: whether the backward pass recomputes the encoders' activations, image by image, rather than keep
            them. This saves most of the memory of a training step of DEQ-Flow, for one more pass through the encoders.
            An encoder whose batch normalisation updates its statistics keeps them
    """

    encoder: Literal["residual", "bottleneck"] = "residual"
    stages: tuple[int, int, int] = (64, 96, 128)
    blocks: int = 2
    features: int = 256
    context_norm: Literal["batch", "none"] = "batch"
    hidden: int = 128
    context: int = 128
    similarity: Literal["dot", "cosine"] = "dot"
    levels: int = 4
    radius: int = 4
    correlation_widths: tuple[int, ...] = (256, 192)
    flow_widths: tuple[int, int] = (128, 64)
    motion: int = 128
    gru: Literal["separable", "square"] = "separable"
    head: int = 256
    upsampling: Literal["convex", "bilinear"] = "convex"
    mask: int = 256
    attention: Literal["none", "global"] = "none"
    attention_by: Literal["content", "position", "both"] = "content"
    attention_positions: int = 0
    scale: Literal[4, 8] = 8
    correlation: Literal["auto", "all-pairs", "on-the-fly"] = "auto"
    dropout: float = 0.0
    cell_dropout: float = 0.0
    recompute: bool = False

    def __post_init__(self) -> None:
        if self.scale not in (4, 8):
            raise ValueError(f"scale must be 4 or 8 (the strides the encoders have), got {self.scale}")
        if len(self.correlation_widths) not in (1, 2):
            raise ValueError(f"correlation_widths must be one or two widths, got {self.correlation_widths}")
        if min(self.blocks, self.levels, self.radius) < 1:
            raise ValueError(
                f"blocks, levels and radius must be at least 1, got {self.blocks}, {self.levels} and {self.radius}"
            )
        if self.motion <= 2:
            raise ValueError(f"motion must exceed the 2 channels that hold the flow, got {self.motion}")
        if self.attention_by != "content" and self.attention_positions < 1:
            raise ValueError(
                f"attention_by={self.attention_by!r} needs attention_positions, the size of the table of relative "
                f"positions (GMA's is 160), got {self.attention_positions}"
            )
        for name in ("dropout", "cell_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 0 and below 1, got {getattr(self, name)}")
        _check_choices(self)

    @property
    def window(self) -> int:
        """Number of correlation values read for each cell: levels * (2 radius + 1)^2."""
        return self.levels * (2 * self.radius + 1) ** 2


def _check_choices(config: Any) -> None:
    """Raises ValueError if a `Literal` field has any other value."""
    for choice in fields(config):
        value = getattr(config, choice.name)
        if get_origin(choice.type) is Literal and value not in get_args(choice.type):
            known = ", ".join(repr(option) for option in get_args(choice.type))
            raise ValueError(f"{choice.name} must be one of {known}, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class Equilibrium:
    """Configuration of the solve and its gradient.

    Attributes:
        solver, stop: solver and stop of the forward solve in training
        eval_stop: stop in evaluation; None is `stop`. The default is version 2's: 1.5 times its 40 steps
        adjoint: gradient of the solve; a tuple has one adjoint for each supervised state, in order
        correction: steps whose states are supervised in training, besides the last (sparse fixed-point correction)
        chaining: "indexing" records the corrected states in one solve, the default of version 1. "sliced" solves from
            one to the next; each slice starts from the value that the adjoint returned for the last state, detached;
            the default of version 2. "resumed" starts it from the state that the solver returned, as version 1's
            sliced_core. In evaluation there is always one solve
        leak: flow' = (1 - leak) flow + change. At 0, as released, the update integrates: wherever the change does not
            depend on the flow, the Jacobian has an eigenvalue of 1, so that small biases add up and no fixed point is
            isolated. Above 0 the flow decays to zero, and the learned change has to sustain it; weights are valid only
            with the leak they were trained with
        flow_gradient: "detached": gradients do not pass through the flow that a step starts from, as in RAFT. This
            changes only the Jacobian of the backward pass; the forward iteration has the eigenvalues of the full one.
            "full" lets them pass (all_grad in the release). Without a leak that Jacobian has an eigenvalue near 1, so
            use it with `Phantom`, not with `Implicit`
        unknown: "flow": the state is (hidden, flow) and relative residuals are relative to the flow. "position": the
            state is (hidden, position), as released. Iterates, absolute residuals and gradients are the same, because
            the solvers commute with a shift. But absolute coordinates dominate the denominator of a relative residual,
            which makes it far smaller, and the same tolerance much looser
        returned: state that a solve returns. "best": for each sample the image f(z) with the lowest residual. "v1",
            "v2" and "delta": the state that the solvers of those releases return; see `models.compat.numerics`
        weight_norm: whether the update block's convolutions have weight normalisation
        on_failure: reaction if samples end above the tolerance of the stop; with slices, only in the last one
    """

    solver: deq.Solver = field(default_factory=deq.FixedPointIteration)
    stop: deq.Stop = field(default_factory=lambda: deq.Stop(max_steps=36, tol=None))
    eval_stop: deq.Stop | None = field(default_factory=lambda: deq.Stop(max_steps=60, tol=None))
    adjoint: deq.Adjoint | tuple[deq.Adjoint, ...] = field(default_factory=deq.Phantom)
    correction: tuple[int, ...] = ()
    chaining: Literal["indexing", "sliced", "resumed"] = "sliced"
    leak: float = 0.0
    flow_gradient: Literal["detached", "full"] = "detached"
    unknown: Literal["flow", "position"] = "flow"
    returned: Literal["best", "v1", "v2", "delta"] = "best"
    weight_norm: bool = True
    on_failure: OnFailure = "ignore"

    def __post_init__(self) -> None:
        _check_choices(self)
        if not 0 <= self.leak <= 1:
            raise ValueError(f"leak must be from 0 (the flow is kept) to 1 (it is predicted anew), got {self.leak}")
        adjoints = self.adjoint if isinstance(self.adjoint, tuple) else (self.adjoint,)
        for adjoint in adjoints:  # raises if something is not a solver, stop or adjoint
            deq.nn.DEQ(solver=self.solver, stop=self.stop, adjoint=adjoint, eval_stop=self.eval_stop)
        if self.returned != "best" and any(isinstance(adjoint, deq.Unrolled) for adjoint in adjoints):
            raise ValueError(f"returned={self.returned!r} picks a state of the solve, so it has no Unrolled() gradient")
        bounds = (0, *self.correction, self.stop.max_steps)
        if any(first >= second for first, second in pairwise(bounds)):
            raise ValueError(
                f"correction must ascend between 1 and stop.max_steps - 1 = {self.stop.max_steps - 1}, "
                f"got {self.correction}: the last state is always supervised, so do not name it"
            )
        if isinstance(self.adjoint, tuple) and len(self.adjoint) != len(bounds) - 1:
            raise ValueError(
                f"a tuple of adjoints needs one for each of the {len(bounds) - 1} supervised states "
                f"({len(self.correction)} corrected, and the last), got {len(self.adjoint)}"
            )


@dataclass(frozen=True, kw_only=True)
class Scales:
    """Resized copies of a pair on which a network estimates flow, from the coarsest to the finest.

    Attributes:
        coarsest: copies are halved until their longer side is at most this, pixels, or halving would leave the
            shorter one below 16
        finest: factor, at least 1, by which the pair is enlarged for the finest copy; it helps a network whose cells
            are four pixels wide on small frames
        longest: longest side of an enlarged copy, pixels; longer frames are enlarged less, or not at all
        refine: number of steps of variational refinement of each copy's flow at its full resolution; see
            `models.refinement`
    """

    coarsest: int = 160
    finest: float = 1.0
    longest: int = 512
    refine: int = 0

    def __post_init__(self) -> None:
        if self.coarsest < 32 or self.finest < 1 or self.longest < 1 or self.refine < 0:
            least = "coarsest of at least 32, finest and longest of at least 1, refine of at least 0"
            raise ValueError(f"scales need {least}, got {self}")

    def sizes(self, height: int, width: int) -> list[tuple[int, int]]:
        """Height and width of each copy of a pair of `height` x `width`, coarsest first; none is halved to below 16."""
        longer = max(height, width)
        scale = max(1.0, min(self.finest, self.longest / longer))
        sizes = [(round(scale * height), round(scale * width))]
        while max(sizes[0]) > self.coarsest and min(sizes[0]) >= 32:
            sizes.insert(0, ((sizes[0][0] + 1) // 2, (sizes[0][1] + 1) // 2))
        return sizes


@dataclass(frozen=True, kw_only=True)
class Converted:
    """The config.json beside a converted checkpoint, which suffices to build its network.

    Attributes:
        family: "deq-flow", or "raft", which includes GMA
        architecture: architecture recognised by the names and shapes in the converted file
        weight_norm: whether the update block has weight normalisation
    """

    kind: Literal["converted"] = "converted"
    family: Literal["deq-flow", "raft"]
    architecture: Architecture
    weight_norm: bool = False
