"""Flow from each frame of a video to the next, the state carried along; one pair of frames in memory at a time."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import cv2
import numpy as np
import torch
from torch import Tensor

import deq_core as deq
from deq_flow.inference import Estimator
from deq_flow.inference_params import Start
from deq_flow.models import RAFT, FlowOutput
from deq_flow.models.network import State
from deq_flow.sequences import start_from

VIDEO = "video"
"""Name of the one stream whose state is carried."""


@dataclass(frozen=True)
class Estimate:
    """The motion from one frame to the next, on the CPU."""

    image: Tensor
    """uint8 RGB (3, h, w), the first of the two frames."""
    flow: Tensor
    """float32 (2, h, w), pixels, u to the right and v downwards."""
    iterations: int
    """Evaluations of the update that were spent on it."""
    residual: float | None
    """Relative residual of the state that gave the flow; None for an unrolled network."""
    cold: bool
    """Whether it started from nothing: the first frame, a frame at a scene cut or after one, or every one."""


def follow(
    estimate: Estimator,
    frames: Iterable[Tensor],
    *,
    start: Start | None = None,
    cut: float | None = 4.0,
    side: int | None = None,
) -> Iterator[Estimate]:
    """The motion between consecutive frames, uint8 RGB (3, h, w) each; one estimate fewer than there are frames.

    Args:
        estimate: the network and how it is run.
        frames: read one by one, as estimates are asked for.
        start: what a pair begins with (see `sequences.start_from`); by default the whole state of the pair before
            it, and for unrolled networks, which have no fixed point to stay at, its flow carried along itself.
        cut: a solve that ends at more than this times the usual residual found no fixed point, as across a scene cut,
            and nothing is carried over; None looks for no cut, nor does a network without a residual. Nothing is
            carried over either where most of a flow that did not begin at zero points out of the frame.
        side: pixels that frames are reduced to along their longer side before they are compared; the flow that comes
            back has the frames' own size and unit. None compares them as they are.
    """
    start = start or ("warm" if isinstance(estimate.network, RAFT) else "reuse")
    stream = deq.Stream(cut)
    carried: State | None = None
    for image1, image2 in pairwise(frames):
        first, second = (reduced(image, side)[None] for image in (image1, image2))
        beginning = start_from(start, carried)
        output = estimate(first, second, beginning)
        spent, cold, lost = evaluations(output, estimate.steps), beginning is None, False
        carried = output.state
        if output.solution is not None:
            lost = bool(stream.update(judged_by_its_end(output), [VIDEO]))
            carried = stream.state([VIDEO])
        if not cold and (lost or astray(output.flow[0])):
            stream.forget(VIDEO)
            carried = None
            output, cold = estimate(first, second), True
            spent += evaluations(output, estimate.steps)
        residual = None if output.solution is None else float(output.solution.residual)
        yield Estimate(image1, enlarged(output.flow[0].cpu(), image1), spent, residual, cold)


def judged_by_its_end(output: FlowOutput) -> deq.Solution:
    """The solution as `deq_core.Stream` shall see it: the state as (hidden, flow), and the last residual as the first.

    In a video that moves, the first residual is large at every frame (0.5 to 0.8 in Sintel-mini, 0.8 to 0.9 at cuts);
    the last one is small until two frames have nothing in common (at most 0.1, and 0.2 to 0.5).
    """
    assert output.solution is not None
    return replace(output.solution, value=output.state, trace=output.solution.residual[None])


def astray(flow: Tensor) -> bool:
    """Whether most vectors of a flow (2, h, w) point out of the frame.

    No camera moves so, but a solve that begins far from its fixed point may run there, where nothing can be compared,
    and would stay.
    """
    height, width = flow.shape[1:]
    x = flow[0] + torch.arange(width, device=flow.device)
    y = flow[1] + torch.arange(height, device=flow.device)[:, None]
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    return inside.float().mean().item() < 0.5


def evaluations(output: FlowOutput, steps: int) -> int:
    """Evaluations that a solve used; an unrolled network uses all its `steps`."""
    return steps if output.solution is None else len(output.solution.trace)


def reduced(image: Tensor, side: int | None) -> Tensor:
    """The image (3, h, w), its longer side brought down to `side` pixels if it is longer."""
    height, width = image.shape[1:]
    if side is None or max(height, width) <= side:
        return image
    factor = side / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    pixels = cv2.resize(image.permute(1, 2, 0).numpy(), size, interpolation=cv2.INTER_AREA)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


def enlarged(flow: Tensor, image: Tensor) -> Tensor:
    """The flow (2, h, w) in the size and the pixels of the image it was reduced from."""
    height, width = image.shape[1:]
    if flow.shape[1:] == (height, width):
        return flow
    factors = flow.new_tensor([width / flow.shape[2], height / flow.shape[1]])
    larger = torch.nn.functional.interpolate(flow[None], (height, width), mode="bilinear", align_corners=False)[0]
    return larger * factors[:, None, None]
