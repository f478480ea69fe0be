"""Flow from each frame of a video to the next; one pair of frames in memory at a time."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import cv2
import numpy as np
import torch
from einops import rearrange
from torch import Tensor

import deq_core as deq
from deq_flow.demo.warped import warped_error
from deq_flow.evaluation.sequences import start_from
from deq_flow.finite import require_finite
from deq_flow.inference import Estimator
from deq_flow.inference_params import Start
from deq_flow.models import FlowOutput
from deq_flow.models.network import State
from deq_flow.models.scales import evaluations
from deq_flow.networks import Network

LEAST = 16  # pixels a side that a network needs


@dataclass(frozen=True)
class Estimate:
    """The motion from one frame to the next, on the CPU."""

    image: Tensor
    """uint8 RGB (3, h, w), the first of the two frames."""
    flow: Tensor
    """float32 (2, h, w), pixels, u to the right and v downwards."""
    iterations: float
    """Evaluations of the update that were spent on it; over several scales, in those of the finest."""
    residual: float | None
    """Relative residual of the state that gave the flow, at the finest scale; None for an unrolled network."""
    cold: bool
    """Whether it started from nothing: the first frame, a frame at a scene cut or after one, or every one."""
    error: float
    """What is left between the frames when the flow has warped the second back; see `warped_error`."""
    still: float
    """The same of zero flow. A flow whose error is above it explains its frames worse than no motion would."""

    @property
    def worse(self) -> bool:
        """Whether zero flow explains the frames better."""
        return self.error > self.still


def follow(
    estimate: Estimator,
    frames: Iterable[Tensor],
    *,
    start: Start = "cold",
    cut: float | None = 4.0,
    side: int | None = None,
    name: str = "frames",
) -> Iterator[Estimate]:
    """The motion between consecutive frames, uint8 RGB (3, h, w) each; one estimate fewer than there are frames.

    Args:
        estimate: the network and how it is run.
        frames: read one by one, as estimates are asked for.
        start: what a pair begins with; see `evaluation.sequences.start_from`. All but "cold" may keep what went wrong.
        cut: a solve that ends, at any scale, at more than this times the usual residual found no fixed point, as across
            a scene cut, and nothing is carried over; None looks for no cut, nor does a network without a residual.
            Nothing is carried over either where zero flow explains the frames better.
        side: pixels that frames are reduced to along their longer side before they are compared; the flow that comes
            back has the frames' own size and unit. None is as `side_of` says.
        name: of the frames, for errors.

    Raises:
        NonFiniteError: a flow is not finite, naming the first of its two frames, counted from 1.
    """
    side = side_of(estimate.network) if side is None else side
    stream = deq.nn.Stream(cut)  # of each scale
    carried: tuple[State, ...] | None = None
    for number, (image1, image2) in enumerate(pairwise(frames), start=1):
        one, output = estimated(estimate, image1, image2, side, start_from(start, carried))
        cuts = [bool(stream.update(end, [scale])) for scale, end in enumerate(judged_by_their_ends(output))]
        carried, lost = output.states, any(cuts)
        if not one.cold and (lost or one.worse):
            again, _ = estimated(estimate, image1, image2, side, None)
            one, lost = replace(again, iterations=one.iterations + again.iterations), True
        if lost or one.worse:
            carried = None
            for scale in range(len(output.states)):
                stream.forget(scale)
        require_finite(one.flow, f"{name}, frame {number}")
        yield one


def side_of(network: Network) -> int | None:
    """The longer side of the frames that a network is good for, pixels; None, as for one with scales, is any."""
    return network.side if network.scales is None else None


def estimated(
    estimate: Estimator, image1: Tensor, image2: Tensor, side: int | None, beginning: Sequence[State] | None
) -> tuple[Estimate, FlowOutput]:
    """The motion between two frames that are reduced to `side` for the network, and what the network said."""
    output = estimate(reduced(image1, side)[None], reduced(image2, side)[None], beginning)
    flow = enlarged(output.flow[0].cpu(), image1)
    one = Estimate(
        image1,
        flow,
        evaluations(output, estimate.steps),
        None if output.solution is None else float(output.solution.residual),
        beginning is None,
        warped_error(image1, image2, flow),
        warped_error(image1, image2),
    )
    return one, output


def judged_by_their_ends(output: FlowOutput) -> list[deq.Solution]:
    """The solutions of all scales as `deq_core.nn.Stream` shall see them, with the last residual as the first.

    In a video that moves, the first residual is large at every frame (0.5 to 0.8 in Sintel-mini, 0.8 to 0.9 at cuts);
    the last one is small until two frames have nothing in common (at most 0.1, and 0.2 to 0.5).
    """
    return [replace(solution, trace=solution.residual[None]) for solution in output.solutions]


def reduced(image: Tensor, side: int | None) -> Tensor:
    """The image (3, h, w), its longer side brought down to `side` pixels if longer, its shorter one to 16 at least."""
    height, width = image.shape[1:]
    factor = 1.0 if side is None else max(side / max(height, width), LEAST / min(height, width))
    if factor >= 1:
        return image
    size = (max(LEAST, round(width * factor)), max(LEAST, round(height * factor)))
    pixels = cv2.resize(rearrange(image, "c h w -> h w c").numpy(), size, interpolation=cv2.INTER_AREA)
    return torch.from_numpy(np.ascontiguousarray(rearrange(pixels, "h w c -> c h w")))


def enlarged(flow: Tensor, image: Tensor) -> Tensor:
    """The flow (2, h, w) in the size and the pixels of the image it was reduced from."""
    height, width = image.shape[1:]
    if flow.shape[1:] == (height, width):
        return flow
    factors = flow.new_tensor([width / flow.shape[2], height / flow.shape[1]])
    larger = torch.nn.functional.interpolate(flow[None], (height, width), mode="bilinear", align_corners=False)[0]
    return larger * factors[:, None, None]
