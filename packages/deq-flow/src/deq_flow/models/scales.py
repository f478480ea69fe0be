"""Coarse to fine: the same network from a reduced pair to the pair itself, each scale relative to the one before."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from deq_flow.config import Scales
from deq_flow.models.network import FlowNetwork, FlowOutput, State, check_shapes
from deq_flow.models.refinement import refined


def coarse_to_fine(
    network: FlowNetwork,
    image1: Tensor,
    image2: Tensor,
    states: Sequence[State] | None = None,
    *,
    scales: Scales | None,
    steps: int | None = None,
    record: Sequence[int] | None = None,
) -> FlowOutput:
    """Flow between images (B, 3, H, W) of values 0..255, of which the network sees reduced and enlarged copies.

    At the coarsest scale flow is sought as ever. At each finer one the flow of the scale before, enlarged, is the base:
    what is sought is the rest, which is short however far things move (the pyramids of Lucas and Kanade, and of
    Brox et al. 2004). All scales share the weights.

    Args:
        states: what each scale starts from, coarsest first, as `FlowOutput.states` has it; cold by default, and where
            there are not as many as scales
        scales: which copies there are; None is the images as they are, alone
        steps: replaces the number of steps of the finest scale; the coarser ones have that of the network's stopping
            rule
        record: steps of the finest scale whose flow is returned in `flows`

    With `scales.refine` every scale's flow is refined on its frames before it is passed on, and the last one's on the
    images as they came (`models.refinement`); states and solutions are of the network alone.

    The output is that of the finest scale, in pixels of the images as they came, with the states of all scales and the
    solutions of the coarser ones. Where a coarse flow is not a number, no finer scale hides it: neither is the result.
    """
    if states is not None and any(isinstance(state, Tensor) for state in states):
        raise TypeError("states must be a state (hidden, flow) for each scale, as FlowOutput.states has them, got one")
    check_shapes(image1, image2)
    size = image1.shape[2], image1.shape[3]
    sizes = [size] if scales is None else scales.sizes(*size)
    starts = [None] * len(sizes) if states is None or len(states) != len(sizes) else states
    outputs: list[FlowOutput] = []
    base: Tensor | None = None
    first, second = image1, image2
    for index, (scaled, state) in enumerate(zip(sizes, starts, strict=True)):
        first, second = resized(image1, scaled), resized(image2, scaled)
        if index == len(sizes) - 1:
            outputs.append(network(first, second, state, steps=steps, record=record, base=base))
        else:
            outputs.append(network(first, second, state, record=(), base=base))
            flow = outputs[-1].flow
            flow = fitted(first, second, flow.to(torch.promote_types(flow.dtype, torch.float32)), scales)
            base = rescaled(flow, sizes[index + 1])
    finest = outputs[-1]

    def whole(flow: Tensor) -> Tensor:
        """A flow of the finest scale, of the images as they came."""
        flow = rescaled(fitted(first, second, flow, scales), size)
        return flow if sizes[-1] == size else fitted(image1, image2, flow, scales)

    flows = tuple(whole(flow) for flow in finest.flows)
    return replace(
        finest,
        flow=flows[-1],
        flows=flows,
        states=tuple(state for output in outputs for state in output.states),
        coarser=tuple(output.solution for output in outputs[:-1] if output.solution is not None),
    )


def fitted(image1: Tensor, image2: Tensor, flow: Tensor, scales: Scales | None) -> Tensor:
    """A scale's flow, refined on its frames where the scales ask for that."""
    return flow if scales is None or scales.refine == 0 else refined(image1, image2, flow.detach(), scales.refine)


def evaluations(output: FlowOutput, unrolled: int) -> float:
    """Evaluations of the update that a batch used at all scales, in those of the finest: see `in_finest`.

    Args:
        unrolled: steps at each scale of a network without a solve
    """
    return in_finest(output, [len(one.trace) for one in output.solutions] or [unrolled] * len(output.states))


def in_finest(output: FlowOutput, counts: Sequence[int]) -> float:
    """Evaluations at each scale, coarsest first, added up as so many of the finest: one at half the size is a quarter.

    Where there is one scale it is the count itself.
    """
    cells = [flow.shape[2] * flow.shape[3] for _, flow in output.states]
    coarser = zip(counts[:-1], cells[:-1], strict=True)
    return counts[-1] + sum(count * part / cells[-1] for count, part in coarser)


def resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    """An image (B, C, h, w) at `size`: means of areas where it shrinks, interpolated where it grows."""
    if tuple(image.shape[2:]) == size:
        return image
    image = image.to(torch.get_default_dtype()) if not image.is_floating_point() else image
    if size[0] <= image.shape[2]:
        return F.interpolate(image, size, mode="area")
    return F.interpolate(image, size, mode="bilinear", align_corners=False)


def rescaled(flow: Tensor, size: tuple[int, int]) -> Tensor:
    """A flow (B, 2, h, w) in pixels at `size`, in pixels of that size."""
    height, width = flow.shape[2:]
    if (height, width) == size:
        return flow
    factors = flow.new_tensor([size[1] / width, size[0] / height])
    return F.interpolate(flow, size, mode="bilinear", align_corners=False) * factors[:, None, None]
