"""Training towards a fixed point that every start leads to.

The recipe of DEQ-Flow supervises two states of one short solve from zero. A network learns to be right after as many
steps, not to stay there, nor to come there from elsewhere, and its solution is none. Here each training step makes two
solves in a row of random lengths; between them the states of some samples are replaced by another sample's, by their
own, moved as from the frame before, or by random ones; and where the map expands along the last step, it is penalised.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import deq_core as deq
from deq_core.nn import MoveMaps, RandomSegments, contraction, mix_initial_states
from deq_flow.models import DEQFlow
from deq_flow.models.adjoints import Noting
from deq_flow.models.network import State


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


@dataclass(frozen=True)
class Attempt:
    """What a training step makes of a batch."""

    flows: tuple[Tensor, ...]
    """(B, 2, H, W) each, in pixels: the predictions to supervise."""
    residual: Tensor | None
    """(B,) of the last solve; None for an unrolled network."""
    expansion: Tensor | None = None
    """(B,) by how much the map expands beyond the bound; None where that is not looked at."""


def attempt(
    model: DEQFlow, images: tuple[Tensor, Tensor], base: Tensor | None, choice: Stabilise, progress: float
) -> Attempt:
    """Solves in a row for a batch, when the share `progress` of the training is done.

    Args:
        model: in training mode.
        images: (B, 3, H, W) each, values 0 to 255.
        base: (B, 2, H, W) in pixels, what flow is relative to; None is zero.
        choice: what is drawn, from torch's own generator.
        progress: from 0 to 1.
    """
    pair = model.encode(*images, base)
    f, state = model.map(pair), model.start(pair)
    adjoint = model.equilibrium.adjoint
    if isinstance(adjoint, tuple) or model.equilibrium.unknown != "flow":
        raise ValueError("stabilise needs one adjoint for all states, and unknown='flow'")
    flows: list[Tensor] = []
    before = value = state
    residual, expansion = None, None
    with model.shared_masks():
        for steps in choice.segments(progress, torch.default_generator):
            if flows and progress >= choice.begin:
                state = moved(state, choice)
            noting = Noting(adjoint)
            stop = deq.Stop(max_steps=steps, tol=None)
            solution = deq.fixed_point(
                f, state, solver=model.equilibrium.solver, stop=stop, adjoint=noting, on_failure="ignore"
            )
            value, residual = solution.value, solution.residual
            flows.append(pair.finish(value[1], value[0]))
            before, state = noting.state, (value[0].detach(), value[1].detach())
        penalty = choice.contraction
        if penalty is not None and penalty.at(progress) > 0:
            one_step = isinstance(adjoint, deq.Phantom) and (adjoint.steps, adjoint.damping) == (1, 0.0)
            expansion = contraction(
                f,
                before if one_step else state,  # the value of one phantom step is f of what the solver returned
                value if one_step else None,
                direction=(state[0] - before[0], state[1] - before[1]),
                bound=penalty.bound,
                step=penalty.step,
                weights=penalty.parts,
                floors=(0.0, penalty.floor),
            )
    return Attempt(tuple(flows), residual, expansion)


def moved(state: State, choice: Stabilise) -> State:
    """The states of a batch, those of some samples replaced."""

    def drawn(states: Any, _: torch.Generator | None) -> State:
        hidden, flow = states
        length = torch.rand(len(flow), 1, 1, 1, device=flow.device)
        coarse = torch.randn(len(flow), 2, 4, 5, device=flow.device)
        smooth = F.interpolate(coarse, flow.shape[2:], mode="bilinear", align_corners=True)
        return length * (2 * torch.rand_like(hidden) - 1), choice.flow * length * smooth

    replaced, _ = mix_initial_states(state, choice.share, move=choice.move, draw=drawn)
    hidden, flow = replaced
    return hidden, flow
