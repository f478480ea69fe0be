"""Training towards a fixed point that every start leads to.

The recipe of DEQ-Flow supervises two states of one short solve from zero. A network learns to be right after that many
steps, but neither to stay there nor to arrive from another start, so it has no fixed point. Here each training step
makes several solves in a row of random lengths. Between them the states of some samples are replaced by another
sample's, by their own, moved as between frames, or by random ones. Expansion along the last step is penalised.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

import deq_core as deq
from deq_core.nn import contraction, mix_initial_states
from deq_flow.models import DEQFlow
from deq_flow.models.adjoints import Noting
from deq_flow.models.network import State
from deq_flow.params import Stabilise


@dataclass(frozen=True)
class Attempt:
    """The predictions of a training step for a batch."""

    flows: tuple[Tensor, ...]
    """Predictions to supervise, (B, 2, H, W) each, in pixels."""
    residual: Tensor | None
    """Residual of the last solve, (B,); None for an unrolled network."""
    expansion: Tensor | None = None
    """Expansion of the map beyond the bound, (B,); None if it is not computed."""
    penalty: Tensor | float = 0.0
    """Weighted penalty of the expansion, to be added to the loss."""


def attempt(
    model: DEQFlow, images: tuple[Tensor, Tensor], base: Tensor | None, choice: Stabilise, progress: float
) -> Attempt:
    """Makes several solves in a row for a batch.

    Args:
        model: model in training mode.
        images: (B, 3, H, W) each, values 0 to 255.
        base: (B, 2, H, W) flow in pixels that the result is relative to; None is zero.
        choice: distributions to draw from, with torch's default generator.
        progress: share of the training that is done, 0 to 1.
    """
    pair = model.encode(*images, base)
    f, state = model.map(pair), model.start(pair)
    adjoint = model.equilibrium.adjoint
    if isinstance(adjoint, tuple) or model.equilibrium.unknown != "flow":
        raise ValueError("stabilise needs one adjoint for all states, and unknown='flow'")
    flows: list[Tensor] = []
    before: State | None = state  # of the last solve, before phantom steps; None without autograd
    value = state
    residual, expansion, cost = None, None, 0.0
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
        weight = 0.0 if penalty is None else penalty.at(progress)
        if penalty is not None and before is not None and weight > 0:
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
            cost = weight * expansion.mean()
    return Attempt(tuple(flows), residual, expansion, cost)


def moved(state: State, choice: Stabilise) -> State:
    """The states of a batch, with those of some samples replaced."""

    def drawn(states: Any, _: torch.Generator | None) -> State:
        hidden, flow = states
        length = torch.rand(len(flow), 1, 1, 1, device=flow.device)
        smooth = smooth_noise(flow, "bilinear")
        return length * (2 * torch.rand_like(hidden) - 1), choice.flow * length * smooth

    replaced, _ = mix_initial_states(state, choice.share, move=choice.move, draw=drawn)
    hidden, flow = replaced
    return hidden, flow


def smooth_noise(flow: Tensor, mode: Literal["bilinear", "bicubic"]) -> Tensor:
    """Normal noise on a grid of 4x5, interpolated to the shape of a flow (B, 2, h, w)."""
    coarse = torch.randn(len(flow), 2, 4, 5, device=flow.device)
    return F.interpolate(coarse, flow.shape[2:], mode=mode, align_corners=True)
