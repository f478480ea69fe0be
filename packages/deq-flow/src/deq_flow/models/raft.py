"""RAFT (Teed & Deng 2020) and GMA (Jiang et al. 2021), made of the parts of DEQ-Flow."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

import deq_core as deq
from deq_flow.config import Architecture
from deq_flow.models.network import FlowNetwork, FlowOutput, State


class RAFT(FlowNetwork):
    """The update block unrolled for a fixed number of steps; the flow of every step is supervised.

    The hidden state is initialised by the context encoder (its first `hidden` outputs through tanh). As in the release,
    gradients pass from step to step through the hidden state but not through the flow.

    Args:
        size: widths and choices of modules
        steps: number of steps in training, at least 1
        eval_steps: number of steps in evaluation, at least 1; the release uses 24 on FlyingChairs and KITTI, 32 on
            Sintel
    """

    def __init__(self, size: Architecture, *, steps: int = 12, eval_steps: int = 24) -> None:
        if min(steps, eval_steps) < 1:
            raise ValueError(f"steps and eval_steps must be at least 1, got {steps} and {eval_steps}")
        super().__init__(size, context_outputs=size.hidden + size.context)
        self.steps, self.eval_steps = steps, eval_steps

    def forward(
        self,
        image1: Tensor,
        image2: Tensor,
        state: State | None = None,
        *,
        steps: int | None = None,
        record: Sequence[int] | None = None,
        base: Tensor | None = None,
    ) -> FlowOutput:
        """Flow between images (B, 3, H, W) of values 0..255.

        Only the flow of `state` is used, if its shape fits; the hidden state is initialised anew, as in the release's
        warm start.
        `flows` has the flow of every step or, with `record`, of those steps and then of the last one, as for DEQ-Flow:
        `record=range(1, n + 1)` with `steps=n` gives n + 1, the last one twice. `base` is as for DEQ-Flow.

        Raises:
            ValueError: the images or `base` do not fit, see `encode`; `steps` is below 1; or `record` does not ascend
                from 1 to `steps`
        """
        if steps is None:
            steps = self.steps if self.training else self.eval_steps
        elif steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")
        wanted = tuple(range(1, steps) if record is None else record)
        if any(first >= second for first, second in pairwise((0, *wanted, steps + 1))):
            raise ValueError(f"record must ascend between 1 and steps = {steps}, got {wanted}")
        pair = self.encode(image1, image2, base)
        hidden, context = pair.context.split([self.size.hidden, self.size.context], dim=1)
        hidden, context = torch.tanh(hidden).to(pair.grid.dtype), torch.relu(context)
        attention = None if self.attn is None else self.attn(context)
        step = self.update_block.bind(context, attention)

        flow = deq.nn.warm_start(None if state is None else state[1], torch.zeros_like(hidden[:, :2]))
        flows = []
        with self.shared_masks():  # one set of dropout masks for all steps
            for k in range(1, steps + 1):
                flow = flow.detach()
                hidden, change = step(hidden, pair.lookup(pair.grid + flow), flow)
                flow = flow + change
                if k in wanted or k == steps:
                    flows.append(pair.finish(flow, hidden))
        if steps in wanted:
            flows.append(flows[-1])
        return FlowOutput(flows[-1], flow + pair.base, ((hidden.detach(), flow.detach()),), None, tuple(flows))
