"""DEQ-Flow (Bai et al. 2022): optical flow as the fixed point of RAFT's update."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

import deq_core as deq
from deq_flow.config import Architecture, Equilibrium
from deq_flow.models.adjoints import Noting, PerState
from deq_flow.models.cell import UpdateBlock
from deq_flow.models.compat.numerics import Returned, rule_of
from deq_flow.models.fast_paths import channels_last
from deq_flow.models.network import FlowNetwork, FlowOutput, Pair, State, flow_found

Map = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
Record = tuple[int, ...]


class DEQFlow(FlowNetwork):
    """Flow and hidden state as the joint fixed point of the update block, given the features of an image pair.

    `encode`, `start` and `map` are the parts of `forward`, for your own solve or to study the Jacobian:
    `deq.fixed_point(model.map(pair), model.start(pair))` with `pair = model.encode(image1, image2)`.
    """

    def __init__(self, size: Architecture, equilibrium: Equilibrium) -> None:
        super().__init__(size, context_outputs=size.context)
        self.equilibrium = equilibrium
        if equilibrium.weight_norm:
            deq.nn.weight_norm_(self.update_block)

    def forward(
        self,
        image1: Tensor,
        image2: Tensor,
        state: State | None = None,
        *,
        steps: int | None = None,
        record: Sequence[int] | None = None,
        base: Tensor | None = None,
        block: UpdateBlock | None = None,
    ) -> FlowOutput:
        """Flow between images (B, 3, H, W) of values 0..255.

        Args:
            state: hidden state and flow to start from, zeros by default; ignored if its shapes do not fit this pair
            steps: maximum number of steps in place of the stop's
            record: steps of the solve whose flow is returned in `flows`, in addition to the last; by default
                `correction` in training, none in evaluation. `record=range(1, n + 1)` is a sweep over iterations
            base: flow (B, 2, H, W) in pixels that the flow of the state is relative to, zero by default; see
                `models.scales`
            block: update block to evaluate in place of the model's own; see `map`

        Raises:
            ValueError: the images or `base` do not fit, see `encode`; or `steps` or `record` do not fit the solve
            ConvergenceError: the equilibrium has `on_failure="raise"`, and a sample missed the tolerance
        """
        choice = self.equilibrium
        stop = choice.stop if self.training or choice.eval_stop is None else choice.eval_stop
        stop = stop if steps is None else replace(stop, max_steps=steps)
        pair = self.encode(image1, image2, base)
        f, start = self.map(pair, block), self.start(pair, state)
        with self.shared_masks():  # one set of dropout masks for all slices
            if record is None and self.training and choice.chaining != "indexing":
                solution = self._solve_in_slices(f, start, stop)
            else:
                if record is None:
                    record = choice.correction if self.training else ()
                solution = self._solve(f, start, stop, choice.adjoint, tuple(record))
        found = (*solution.trajectory, solution.value)
        states = [(hidden, self.flow_of(unknown, pair)) for hidden, unknown in found]
        flows = tuple(pair.finish(flow_found(flow, solution), hidden) for hidden, flow in states)
        hidden, flow = states[-1]
        low = flow_found(flow, solution) + pair.base
        return FlowOutput(flows[-1], low, ((hidden.detach(), flow.detach()),), solution, flows)

    def start(self, pair: Pair, state: State | None = None) -> State:
        """The initial state of a solve: `state` if its shapes fit, else zero hidden state and zero flow."""
        batch, _, height, width = pair.context.shape
        hidden = pair.grid.new_zeros(batch, self.size.hidden, height, width)
        hidden, flow = deq.nn.warm_start(state, (hidden, torch.zeros_like(hidden[:, :2])))
        return channels_last(hidden), flow + self._origin(pair)  # the memory format of the cell's output

    def map(self, pair: Pair, block: UpdateBlock | None = None) -> Map:
        """The function of (hidden, unknown) to find a fixed point of; gradients reach the encoders through it.

        `block` is evaluated, layer by layer, in place of the model's own: for example the copy of `update_block` that
        `deq.delta.to_delta` makes.
        """
        context = torch.relu(pair.context)
        attention = None if self.attn is None else self.attn(context)
        origin = self._origin(pair)
        detach = self.equilibrium.flow_gradient == "detached"

        def whole(hidden: Tensor, window: Tensor, flow: Tensor) -> State:
            assert block is not None
            return block(hidden, context, window, flow, attention)

        step = self.update_block.bind(context, attention) if block is None else whole
        leak = self.equilibrium.leak

        def f(hidden: Tensor, unknown: Tensor) -> State:
            unknown = unknown.detach() if detach else unknown
            flow = unknown - origin
            hidden, change = step(hidden, pair.lookup(pair.grid + flow), flow)
            return hidden, unknown + (change - leak * flow if leak else change)

        return f

    def flow_of(self, unknown: Tensor, pair: Pair) -> Tensor:
        """Flow (B, 2, h, w) in cells, relative to the base of the pair, from the second part of a state."""
        return unknown - self._origin(pair)

    def _origin(self, pair: Pair) -> Tensor:
        return pair.grid if self.equilibrium.unknown == "position" else torch.zeros_like(pair.grid)

    def _solve(
        self,
        f: Map,
        start: State,
        stop: deq.Stop,
        adjoint: deq.Adjoint | tuple[deq.Adjoint, ...],
        record: Record = (),
        *,
        last: bool = True,
    ) -> deq.Solution:
        choice = self.equilibrium
        adjoint = PerState(adjoint) if isinstance(adjoint, tuple) else adjoint
        recording = torch.is_grad_enabled()
        if choice.returned != "best":
            adjoint = Returned(choice.returned, adjoint if recording else None)
            recording = True  # adjoints are called only then; `Returned` without an adjoint solves without autograd
        with torch.set_grad_enabled(recording):
            solution = deq.fixed_point(
                f,
                start,
                solver=choice.solver,
                stop=stop,
                adjoint=adjoint,
                record=record,
                on_failure=choice.on_failure if last else "ignore",
            )
        if choice.returned != "best" and rule_of(choice.returned, choice.solver).slack:
            return replace(solution, keeps="last")
        return solution

    def _solve_in_slices(self, f: Map, start: State, stop: deq.Stop) -> deq.Solution:
        """A solution joined from one solve between each two corrected states."""
        choice = self.equilibrium
        bounds = (0, *choice.correction, stop.max_steps)
        if bounds[-2] >= bounds[-1]:
            raise ValueError(f"steps must exceed the last corrected step {bounds[-2]}, got {bounds[-1]}")
        adjoints = choice.adjoint if isinstance(choice.adjoint, tuple) else (choice.adjoint,) * (len(bounds) - 1)
        parts: list[deq.Solution] = []
        for (first, last), adjoint in zip(pairwise(bounds), adjoints, strict=True):
            noting, part = Noting(adjoint), replace(stop, max_steps=last - first)
            parts.append(self._solve(f, start, part, noting, last=last == bounds[-1]))
            moved: State = parts[-1].value
            hidden, unknown = moved if choice.chaining == "sliced" or noting.state is None else noting.state
            start = (hidden.detach(), unknown.detach())
        states = [state for part in parts for state in (*part.trajectory, part.value)]
        return replace(
            parts[-1],
            trajectory=tuple(states[:-1]),
            steps=parts[-1].steps + sum(len(part.trace) for part in parts[:-1]),
            trace=torch.cat([part.trace for part in parts]),
            nfe=sum(part.nfe for part in parts),
        )
