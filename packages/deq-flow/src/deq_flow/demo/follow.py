"""Flow from each frame of a video to the next, with one pair of frames in memory at a time."""

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

LEAST = 16  # pixels; least side of frames for a network
APART = 0.15  # greatest share of returning corners between unrelated frames
EXPLAINED = 0.5  # error relative to that of zero flow, up to which frames are related, however large the motion
VISIBLE = 0.5  # pixels; slower flow shows no errors
SUDDEN = 4.0  # error relative to that of previous flows, above which the track is lost, or soon will be
LEFT = 0.3  # error relative to that of zero flow, up to which a flow is not suddenly worse

Reason = Literal["not finite", "scene cut", "worse than no motion", "suddenly worse", "not converged"]
"""Reason for a warning; see `Estimate.warning`."""


@dataclass(frozen=True)
class Estimate:
    """The flow from one frame to the next, on the CPU."""

    image: Tensor
    """uint8 RGB (3, h, w), the first of the two frames."""
    second: Tensor
    """uint8 RGB (3, h, w), the second one."""
    flow: Tensor
    """float32 (2, h, w), pixels, u to the right and v downwards."""
    iterations: float
    """Number of evaluations of the update; with several scales, in units of the finest."""
    residual: float | None
    """Relative residual of the state that gave the flow, at the finest scale; of the hidden state if the stop has
    parts. None for an unrolled network."""
    flow_residual: float | None
    """Root mean square change of the flow by one more evaluation, pixels of the finest scale; None if the stop has no
    parts."""
    coarser: tuple[float, ...]
    """`residual` of the coarser scales, coarsest first."""
    start: Start
    """Start of the solve that gave the flow."""
    error: float
    """Error of the second frame warped back by the flow; see `warped_error`."""
    still: float
    """The same for zero flow. A flow with a larger error explains its frames worse than zero flow does."""
    warning: Reason | None = None
    """Reason not to trust the flow, even after a cold start: it is not finite; the frames are a scene cut; zero flow
    explains them better; its error is far above that of the previous flows; or its residual is far above the usual one
    in the video."""
    backward: "Estimate | None" = None
    """The flow from the second frame to the first, from a cold start; None if it was not requested."""

    @property
    def cold(self) -> bool:
        """Whether the solve had a cold start."""
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
    """Estimates the flow between consecutive frames, uint8 RGB (3, h, w) each.

    If a flow is not to be trusted, it is estimated again from a cold start, and if that fails too, it gets a `warning`.
    The next pair does not start from such a flow.

    Args:
        estimate: estimator of the flow.
        frames: frames, which are read one by one as estimates are requested.
        start: start of a pair; see `evaluation.sequences.start_from`. All but "cold" may carry errors on.
        far: factor of the usual residual above which a solve, at any scale, counts as not converged; None ignores
            residuals.
        side: longer side, in pixels, to which larger frames are downscaled for the network; the flow has the original
            size and unit. None keeps their size.
        backward: whether to estimate the flow from each second frame to the first too, for twice the time.
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
    """The flow between two frames, downscaled to `side` for the network, and the output of the network.

    The solve starts from the states `begin`, whose kind is `start`; None is a cold start.
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
    """The relative residual of a solve of one pair; of the hidden state if its stop has parts."""
    return float(solution.residual if solution.parts is None else solution.parts[:, 0])


def flow_residual_of(solution: deq.Solution | None, scale: int) -> float | None:
    """The residual of the flow of one pair, pixels, if its stop has parts; `scale` is the side of a cell in pixels."""
    return None if solution is None or solution.parts is None else scale * float(solution.parts[:, 1])


def distrust(one: Estimate, apart: bool, worse: bool, far: bool) -> Reason | None:
    """The reason not to trust an estimate, or None.

    Args:
        one: estimate without its warning.
        apart: whether the frames seem unrelated. If the flow explains most of their difference, they are related, and
            the motion was too large for the tracker.
        worse: whether its error is far above that of the previous flows.
        far: whether its residual is far above the usual one.
    """
    if not one.flow.isfinite().all():
        return "not finite"
    if apart and one.error > EXPLAINED * one.still:
        return "scene cut"
    if (worse or one.error > one.still) and fastest(one.flow) >= VISIBLE:
        return "worse than no motion" if one.error > one.still else "suddenly worse"
    return "not converged" if far else None


def fastest(flow: Tensor) -> float:
    """The speed that one pixel in 200 of a flow (2, ...) exceeds, pixels; 0 without any pixel."""
    speeds = torch.hypot(flow[0], flow[1]).numpy()
    return float(np.quantile(speeds, 0.995)) if speeds.size else 0.0


@dataclass
class Usual:
    """Usual errors of the flows of a video, and usual final residuals of their solves at each scale.

    If the stop has parts, a residual is that of the worst part relative to its tolerance. First residuals are no
    measure, because in a moving video they are always large (0.5 to 0.8 in Sintel-mini, 0.8 to 0.9 at cuts). Final ones
    are small except between unrelated frames (at most 0.1, and 0.2 to 0.5).
    """

    far: float | None
    """Factor of the usual residual above which a residual is far above it; None ignores residuals."""
    least: float
    """Least usual residual, such as the tolerance of the solves."""
    means: list[float] = field(default_factory=list)
    """Running means of the residuals, coarsest scale first; empty before the first solve."""
    error: float | None = None
    """Running mean of the errors; None before the first flow of a scene that shows motion."""
    memory: float = 0.8
    """Weight of the past in the running means."""

    def worse(self, one: Estimate) -> bool:
        """Whether a flow's error is far above that of the previous flows, and not small relative to zero flow's."""
        return self.error is not None and one.error > max(SUDDEN * self.error, LEFT * one.still)

    def exceeded(self, output: FlowOutput) -> bool:
        """Whether a solve ended far above the usual residual, at any scale."""
        if self.far is None:
            return False
        ends = [float(solution.residual) for solution in output.solutions]
        return any(not end <= self.far * max(mean, self.least) for end, mean in zip(ends, self.means, strict=False))

    def add(self, one: Estimate, output: FlowOutput) -> None:
        """Updates the usual values with one more flow and its warning, so that they follow lasting changes.

        The errors of frames that hardly differ, such as repeated ones, do not count.
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
    """The image (3, h, w), downscaled to a longer side of at most `side` pixels and a shorter one of at least 16."""
    height, width = image.shape[1:]
    factor = 1.0 if side is None else max(side / max(height, width), LEAST / min(height, width))
    if factor >= 1:
        return image
    size = (max(LEAST, round(width * factor)), max(LEAST, round(height * factor)))
    pixels = cv2.resize(rearrange(image, "c h w -> h w c").numpy(), size, interpolation=cv2.INTER_AREA)
    return torch.from_numpy(np.ascontiguousarray(rearrange(pixels, "h w c -> c h w")))


def enlarged(flow: Tensor, image: Tensor) -> Tensor:
    """The flow (2, h, w) resized to the size of the original image, in its pixels."""
    height, width = image.shape[1:]
    if flow.shape[1:] == (height, width):
        return flow
    factors = flow.new_tensor([width / flow.shape[2], height / flow.shape[1]])
    larger = torch.nn.functional.interpolate(flow[None], (height, width), mode="bilinear", align_corners=False)[0]
    return larger * factors[:, None, None]
