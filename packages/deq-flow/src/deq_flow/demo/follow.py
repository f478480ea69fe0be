"""Flow from each frame of a video to the next; one pair of frames in memory at a time."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

import cv2
import numpy as np
import torch
from einops import rearrange
from torch import Tensor

import deq_core as deq
from deq_flow.demo.cuts import returning
from deq_flow.demo.warped import warped_error
from deq_flow.evaluation.sequences import start_from
from deq_flow.inference import Estimator
from deq_flow.inference_params import Start
from deq_flow.models import FlowOutput
from deq_flow.models.network import State
from deq_flow.models.scales import evaluations

LEAST = 16  # pixels a side that a network needs
APART = 0.15  # share of corners that return at most between frames that have nothing in common
EXPLAINED = 0.5  # of what is between two frames, left by a flow: then they are no cut, however far things went
VISIBLE = 0.5  # pixels; a slower flow shows nothing that could mislead
SUDDEN = 4.0  # times what flows before it left between their frames: then a track was lost, or is about to be
LEFT = 0.3  # of what is between two frames: a flow that leaves no more explains them, whatever those before it left

Reason = Literal["not finite", "scene cut", "worse than no motion", "suddenly worse", "not converged"]
"""Why a flow is not to be trusted; see `Estimate.warning`."""


@dataclass(frozen=True)
class Estimate:
    """The motion from one frame to the next, on the CPU."""

    image: Tensor
    """uint8 RGB (3, h, w), the first of the two frames."""
    second: Tensor
    """The second one, likewise."""
    flow: Tensor
    """float32 (2, h, w), pixels, u to the right and v downwards."""
    iterations: float
    """Evaluations of the update that were spent on it; over several scales, in those of the finest."""
    residual: float | None
    """Relative residual of the state that gave the flow, at the finest scale, of its hidden part where the stop judges
    by part; None for an unrolled network."""
    flow_residual: float | None
    """How far one more evaluation would move the flow, the root of the mean square, pixels of the finest scale; None
    where the stop does not judge by part."""
    coarser: tuple[float, ...]
    """`residual` of the coarser scales, coarsest first."""
    start: Start
    """What the solve that gave the flow began with."""
    error: float
    """What is left between the frames when the flow has warped the second back; see `warped_error`."""
    still: float
    """The same of zero flow. A flow whose error is above it explains its frames worse than no motion would."""
    warning: Reason | None = None
    """Why the flow is not to be trusted, though it began from nothing: it is not finite; the frames are a scene cut,
    with nothing in common; zero flow explains them better; it leaves far more unexplained than the flows before it
    did; or the residual is far above what is usual in the video."""
    backward: "Estimate | None" = None
    """The motion from the second frame to the first, from nothing; None where nobody asked."""

    @property
    def cold(self) -> bool:
        """Whether it started from nothing: the first frame, one that failed otherwise, or every one."""
        return self.start == "cold"


def follow(
    estimate: Estimator,
    frames: Iterable[Tensor],
    *,
    start: Start = "cold",
    far: float | None = 4.0,
    side: int | None = None,
    backward: bool = False,
) -> Iterator[Estimate]:
    """The motion between consecutive frames, uint8 RGB (3, h, w) each; one estimate fewer than there are frames.

    A flow that is not to be trusted is sought again from nothing, unless it began there, and where that fails too it
    has a `warning`. Nothing of such a flow is carried on.

    Args:
        estimate: the network and how it is run.
        frames: read one by one, as estimates are asked for.
        start: what a pair begins with; see `evaluation.sequences.start_from`. All but "cold" may keep what went wrong.
        far: a solve that ends, at any scale, at more than this times the usual residual did not converge; None asks no
            residual, nor does a network without one.
        side: pixels that frames are reduced to along their longer side before they are compared; the flow that comes
            back has the frames' own size and unit. None leaves them as they are.
        backward: whether the motion from each second frame to the first is sought too, at the price of as much again.
    """
    usual = Usual(far, least=estimate.tolerance or 0.0)
    carried: tuple[State, ...] | None = None
    for image1, image2 in pairwise(frames):
        share = returning(image1, image2)
        apart = share is not None and share < APART
        begin = None if apart else start_from(start, carried)
        one, output = estimated(estimate, image1, image2, side, begin, start)
        if not one.cold and distrust(one, apart, usual.worse(one), usual.exceeded(output)):
            spent = one.iterations
            one, output = estimated(estimate, image1, image2, side, None, start)
            one = replace(one, iterations=spent + one.iterations)
        one = replace(one, warning=distrust(one, apart, usual.worse(one), usual.exceeded(output)))
        usual.add(one, output)
        carried = None if one.warning else output.states
        if backward:
            back, _ = estimated(estimate, image2, image1, side, None, start)
            one = replace(one, backward=replace(back, warning=distrust(back, apart, worse=False, far=False)))
        yield one


def estimated(
    estimate: Estimator, image1: Tensor, image2: Tensor, side: int | None, begin: Sequence[State] | None, start: Start
) -> tuple[Estimate, FlowOutput]:
    """The motion between two frames that are reduced to `side` for the network, and what the network said.

    It begins at the states `begin`, which are what `start` calls them, or from nothing without.
    """
    output = estimate(reduced(image1, side)[None], reduced(image2, side)[None], begin)
    flow = enlarged(output.flow[0].cpu(), image1)
    one = Estimate(
        image=image1,
        second=image2,
        flow=flow,
        iterations=evaluations(output, estimate.steps),
        residual=None if output.solution is None else residual_of(output.solution),
        flow_residual=flow_residual_of(output.solution, estimate.network.size.scale),
        coarser=tuple(map(residual_of, output.coarser)),
        start="cold" if begin is None else start,
        error=warped_error(image1, image2, flow),
        still=warped_error(image1, image2),
    )
    return one, output


def residual_of(solution: deq.Solution) -> float:
    """The relative residual of a solve of one pair, of the hidden state where its stop judges by part."""
    return float(solution.residual if solution.parts is None else solution.parts[:, 0])


def flow_residual_of(solution: deq.Solution | None, scale: int) -> float | None:
    """The residual of the flow of one pair, pixels, where its stop judges by part; a cell has `scale` pixels a side."""
    return None if solution is None or solution.parts is None else scale * float(solution.parts[:, 1])


def distrust(one: Estimate, apart: bool, worse: bool, far: bool) -> Reason | None:
    """Why an estimate is not to be trusted.

    Args:
        one: without its warning.
        apart: whether the frames seem to have nothing in common. That the flow explains most of the difference between
            them says that they have, and that things moved too far to be seen otherwise.
        worse: whether it leaves far more between its frames than the flows before it did.
        far: whether the residual is far above what is usual.
    """
    if not one.flow.isfinite().all():
        return "not finite"
    if apart and one.error > EXPLAINED * one.still:
        return "scene cut"
    if (worse or one.error > one.still) and fastest(one.flow) >= VISIBLE:
        return "worse than no motion" if one.error > one.still else "suddenly worse"
    return "not converged" if far else None


def fastest(flow: Tensor) -> float:
    """The speed that one pixel of 200 of a flow (2, ...) exceeds, pixels; 0 without a pixel."""
    speeds = torch.hypot(flow[0], flow[1]).numpy()
    return float(np.quantile(speeds, 0.995)) if speeds.size else 0.0


@dataclass
class Usual:
    """What the flows of a video usually leave between their frames, and the residuals in which their solves end, by
    scale: over its tolerance that of the worst part, where the stop judges by part.

    The first residual of a solve is no measure: in a video that moves it is large at every frame (0.5 to 0.8 in
    Sintel-mini, 0.8 to 0.9 at cuts), while the last one is small until two frames have nothing in common (at most 0.1,
    and 0.2 to 0.5).
    """

    far: float | None
    """How many times the usual residual is far above it; None never is."""
    least: float
    """Residual that is usual whatever came before, such as the tolerance of the solves."""
    means: list[float] = field(default_factory=list)
    """Running means, coarsest scale first; none before the first solve."""
    error: float | None = None
    """Running mean of the errors; None before the first flow of a scene that shows motion."""
    memory: float = 0.8
    """Share of the past in them."""

    def worse(self, one: Estimate) -> bool:
        """Whether a flow leaves far more between its frames than those before it did, and much of what is there."""
        return self.error is not None and one.error > max(SUDDEN * self.error, LEFT * one.still)

    def exceeded(self, output: FlowOutput) -> bool:
        """Whether a solve ended far above what is usual, at any scale."""
        if self.far is None:
            return False
        ends = [float(solution.residual) for solution in output.solutions]
        return any(not end <= self.far * max(mean, self.least) for end, mean in zip(ends, self.means, strict=False))

    def add(self, one: Estimate, output: FlowOutput) -> None:
        """Counts one more flow with its warning; where what is found changes for good, that becomes usual.

        What is left between frames that hardly differ, as of a repeated one, says nothing of those that do.
        """
        if one.warning in ("not finite", "worse than no motion", "scene cut"):
            self.error = None if one.warning == "scene cut" else self.error
            return
        if fastest(one.flow) >= VISIBLE:
            self.error = one.error if self.error is None else self.memory * self.error + (1 - self.memory) * one.error
        if one.warning == "suddenly worse":
            return
        ends = [float(solution.residual) for solution in output.solutions]
        old = self.means or ends
        self.means = [self.memory * mean + (1 - self.memory) * end for mean, end in zip(old, ends, strict=True)]


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
