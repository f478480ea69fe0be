"""DEQ-Flow (Bai et al. 2022): optical flow as the fixed point of RAFT's update."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import deq_core as deq
import torch
from torch import Tensor

from deq_flow.config import Architecture
from deq_flow.models.network import FlowNetwork, FlowOutput, Pair, State

Map = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True, kw_only=True)
class Equilibrium:
    """How the fixed point is found and differentiated.

    solver, stop   the forward solve in training
    eval_stop      its stopping rule in evaluation; `stop` if None. The release evaluates with half as many steps more
    adjoint        how gradients pass through the solve
    correction     evaluations whose states are supervised in training, besides the last (sparse fixed-point correction)
    chaining       "indexing" records the corrected states in one solve; "sliced" solves from one to the next, each slice
                   starting from what the adjoint made of the last state, detached. The release has both: version 1
                   defaults to indexing, version 2 to sliced. Under fixed-point iteration they differ in the starts alone
    flow_gradient  "detached": the flow a step starts from carries no gradient, as in RAFT; the Jacobian of the update
                   is then well inside the unit circle. "full" lets it pass (the release's all_grad); flow' = flow + change
                   puts an eigenvalue near 1 into the Jacobian, so use it with `Phantom`, not with `Implicit`
    unknown        "flow": the state is (hidden, flow), and relative residuals are relative to the flow. "position": the
                   state is (hidden, position), as released. Iterates, absolute residuals and gradients are the same,
                   because every solver commutes with a shift; relative residuals come out far smaller, since absolute
                   coordinates dominate the denominator, and a relative tolerance is correspondingly loose
    weight_norm    weight normalisation of the update block's convolutions
    """

    solver: deq.Solver = deq.FixedPointIteration()
    stop: deq.Stop = deq.Stop(max_steps=36, tol=None)
    eval_stop: deq.Stop | None = deq.Stop(max_steps=60, tol=None)
    adjoint: deq.Adjoint = deq.Phantom(steps=1)
    correction: tuple[int, ...] = (6, 12, 18, 24, 30)
    chaining: Literal["indexing", "sliced"] = "sliced"
    flow_gradient: Literal["detached", "full"] = "detached"
    unknown: Literal["flow", "position"] = "flow"
    weight_norm: bool = True

    def __post_init__(self) -> None:
        bounds = (0, *self.correction, self.stop.max_steps)
        if any(a >= b for a, b in zip(bounds, bounds[1:], strict=False)):
            raise ValueError(
                f"correction must ascend between 1 and stop.max_steps - 1 = {self.stop.max_steps - 1}, "
                f"got {self.correction}: the last state is always supervised, so do not name it"
            )


class DEQFlow(FlowNetwork):
    """Flow and hidden state as the joint fixed point of the update block, given the features of an image pair."""

    def __init__(self, size: Architecture, equilibrium: Equilibrium) -> None:
        super().__init__(size, context_outputs=size.context)
        self.equilibrium = equilibrium
        if equilibrium.weight_norm:
            deq.weight_norm_(self.update_block)

    def forward(
        self,
        image1: Tensor,
        image2: Tensor,
        state: State | None = None,
        *,
        steps: int | None = None,
        record: Sequence[int] | None = None,
    ) -> FlowOutput:
        """Flow between images (B, 3, H, W) of values 0..255.

        state   hidden state and flow to start from, zeros by default; ignored if its shapes do not fit this pair
        steps   replaces the number of evaluations of the stopping rule
        record  evaluations whose flow to return in `flows` besides the last; by default the corrected ones in training,
                none in evaluation. `record=range(1, n + 1)` gives a sweep over iterations in one solve
        """
        choice = self.equilibrium
        stop = choice.stop if self.training or choice.eval_stop is None else choice.eval_stop
        if steps is not None:
            stop = replace(stop, max_steps=steps)
        pair = self.encode(image1, image2)
        start = self.start(pair, len(image1), state)
        f = self.map(pair)
        sliced = record is None and self.training and choice.chaining == "sliced"
        if record is None:
            record = choice.correction if self.training else ()
        origin = self._origin(pair)
        if sliced:
            solution = self._solve_in_slices(f, start, stop, record)
        else:
            solution = deq.fixed_point(
                f, start, solver=choice.solver, stop=stop, adjoint=choice.adjoint, record=tuple(record)
            )
        states = [(hidden, unknown - origin) for hidden, unknown in (*solution.trajectory, solution.value)]
        flows = tuple(pair.finish(flow, hidden) for hidden, flow in states)
        hidden, flow = states[-1]
        return FlowOutput(flows[-1], flow, (hidden.detach(), flow.detach()), solution, flows)

    def start(self, pair: Pair, batch: int, state: State | None = None) -> tuple[Tensor, Tensor]:
        """The state a solve begins with: `state` where it fits, else zero hidden state and zero flow."""
        height, width = pair.grid.shape[2:]
        zeros = pair.grid.new_zeros(batch, self.size.hidden + 2, height, width).split([self.size.hidden, 2], dim=1)
        hidden, flow = deq.warm_start(state, (zeros[0], zeros[1]))
        return hidden, flow + self._origin(pair)

    def map(self, pair: Pair) -> Map:
        """The function whose fixed point is sought, on the state that `start` returns."""
        context = torch.relu(pair.context)
        attention = None if self.attn is None else self.attn(context)
        step = self.update_block.bind(context, attention)
        origin = self._origin(pair)
        detach = self.equilibrium.flow_gradient == "detached"

        def f(hidden: Tensor, unknown: Tensor) -> tuple[Tensor, Tensor]:
            unknown = unknown.detach() if detach else unknown
            flow = unknown - origin
            hidden, change = step(hidden, pair.lookup(pair.grid + flow), flow)
            return hidden, unknown + change

        return f

    def _origin(self, pair: Pair) -> Tensor:
        return pair.grid if self.equilibrium.unknown == "position" else torch.zeros_like(pair.grid)

    def _solve_in_slices(self, f: Map, start: State, stop: deq.Stop, record: Sequence[int]) -> deq.Solution:
        choice = self.equilibrium
        bounds = (0, *record, stop.max_steps)
        solutions: list[deq.Solution] = []
        for first, last in zip(bounds, bounds[1:], strict=False):
            slice_stop = replace(stop, max_steps=last - first)
            solution = deq.fixed_point(f, start, solver=choice.solver, stop=slice_stop, adjoint=choice.adjoint)
            solutions.append(solution)
            start = (solution.value[0].detach(), solution.value[1].detach())
        final = solutions[-1]
        return replace(
            final,
            trajectory=[solution.value for solution in solutions[:-1]],
            steps=final.steps + bounds[-2],
            trace=torch.cat([solution.trace for solution in solutions]),
            nfe=sum(solution.nfe for solution in solutions),
        )
