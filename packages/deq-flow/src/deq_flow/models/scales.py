"""Coarse-to-fine estimation: one network at several scales of a pair, each relative to the flow of the one before."""

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
    """Flow between images (B, 3, H, W) of values 0..255, estimated on resized copies from coarse to fine.

    The upsampled flow of each scale is the base of the next one, which estimates only the difference. This difference
    is small even for large motion (the pyramids of Lucas and Kanade, and of Brox et al. 2004). All scales share the
    weights.

    Args:
        states: initial state of each scale, coarsest first, as in `FlowOutput.states`; zeros by default, and if their
            number is not that of the scales
        scales: sizes of the copies; None is the original size alone
        steps: maximum number of steps at the finest scale; the coarser ones have that of the network's own stop
        record: steps of the finest scale whose flow is returned in `flows`

    With `scales.refine`, the flow of each scale is refined on its copies before it is passed on, and the final flow
    also on the original images (`models.refinement`). States and solutions are those of the network, without
    refinement.

    `flow` and `flows` are in pixels of the original images, `flow_low` is that of the finest scale; `states` has those
    of all scales, `coarser` the solutions of the coarser ones. NaN in a coarse flow stays NaN in the result.

    Raises:
        TypeError: `states` is one state instead of one for each scale.
        ValueError: the images are not (B, 3, H, W) of one shape, or too small; or `steps` or `record` do not fit.
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
        """A flow of the finest scale, in pixels of the original images."""
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
    """The flow of a scale, refined on its images if `scales.refine` is not 0."""
    return flow if scales is None or scales.refine == 0 else refined(image1, image2, flow.detach(), scales.refine)


def evaluations(output: FlowOutput, unrolled: int) -> float:
    """Number of evaluations of the update for a batch at all scales, in units of the finest; see `in_finest`.

    Args:
        unrolled: number of steps at each scale of an unrolled network
    """
    return in_finest(output, [len(one.trace) for one in output.solutions] or [unrolled] * len(output.states))


def in_finest(output: FlowOutput, counts: Sequence[int]) -> float:
    """Sum of the evaluations at each scale, coarsest first, weighted by cells: one at half the size counts 1/4."""
    cells = [flow.shape[2] * flow.shape[3] for _, flow in output.states]
    coarser = zip(counts[:-1], cells[:-1], strict=True)
    return counts[-1] + sum(count * part / cells[-1] for count, part in coarser)


def resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    """An image (B, C, h, w) resized to `size`: bilinear interpolation to enlarge it, means to shrink it.

    The means are over whole pixels, as in torch's "area"; where a size does not divide the other, areas overlap.
    """
    if tuple(image.shape[2:]) == size:
        return image
    image = image.to(torch.get_default_dtype()) if not image.is_floating_point() else image
    if size[0] <= image.shape[2]:
        return F.interpolate(image, size, mode="area")
    return F.interpolate(image, size, mode="bilinear", align_corners=False)


def rescaled(flow: Tensor, size: tuple[int, int]) -> Tensor:
    """A flow (B, 2, h, w) in pixels, resized to `size` and scaled to pixels of that size."""
    height, width = flow.shape[2:]
    if (height, width) == size:
        return flow
    factors = flow.new_tensor([size[1] / width, size[0] / height])
    return F.interpolate(flow, size, mode="bilinear", align_corners=False) * factors[:, None, None]
