"""The base of DEQ-Flow and RAFT: encoders, correlation, update block, upsampling."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Self

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

import deq_core as deq
from deq_flow.config import Architecture, Scales
from deq_flow.models.attention import Attention
from deq_flow.models.cell import UpdateBlock
from deq_flow.models.encoder import Encoder
from deq_flow.models.lookup.correlation import Lookup, correlation
from deq_flow.models.padding import Padding
from deq_flow.models.upsample import bilinear_upsample, convex_upsample, mask_head

State = tuple[Tensor, Tensor]
"""Hidden state (B, hidden, h, w) and flow (B, 2, h, w) in cells, h = H / scale rounded up."""


@dataclass(frozen=True)
class FlowOutput:
    """The output of a flow network for a batch of image pairs.

    Attributes:
        flow: (B, 2, H, W) motion from image 1 to image 2, pixels, u to the right and v downwards; NaN for a sample
            without a finite evaluation
        flow_low: (B, 2, h, w) the same on the grid of the padded images, in cells
        states: detached states for warm-starting the next frame, one for each scale, coarsest first; their flow is
            relative to the base of the scale
        solution: residuals, steps and trace of the solve at the finest scale; None for unrolled networks
        flows: all supervised or recorded predictions at full resolution, in order; the last is `flow`
        coarser: solutions of the coarser scales, coarsest first
    """

    flow: Tensor
    flow_low: Tensor
    states: tuple[State, ...]
    solution: deq.Solution | None
    flows: tuple[Tensor, ...]
    coarser: tuple[deq.Solution, ...] = ()

    @property
    def state(self) -> State:
        """The state of the finest scale."""
        return self.states[-1]

    @property
    def solutions(self) -> tuple[deq.Solution, ...]:
        """The solutions of all scales, coarsest first; empty for unrolled networks."""
        return () if self.solution is None else (*self.coarser, self.solution)


def flow_found(flow: Tensor, solution: deq.Solution) -> Tensor:
    """The flow (B, 2, h, w) of a solve, with NaN for samples without a finite evaluation."""
    return torch.where(solution.residual.isfinite()[:, None, None, None], flow, torch.nan)


@dataclass(frozen=True)
class Pair:
    """An encoded image pair: the inputs of an update step besides its state.

    Attributes:
        lookup: correlation windows around positions, see `lookup.correlation.Lookup`
        context: (B, outputs of the context encoder, h, w), before any nonlinearity
        grid: (1 or B, 2, h, w) for each cell the position, x then y, in image 2 that zero flow maps it to: its own
            position plus `base`
        base: (B, 2, h, w) flow in cells that the flow of a state is relative to; 0 for none
        finish: function of the flow and hidden state of a state; gives the flow in pixels of the unpadded images,
            including the base
    """

    lookup: Lookup
    context: Tensor
    grid: Tensor
    base: Tensor | float
    finish: Callable[[Tensor, Tensor], Tensor]


class FlowNetwork(nn.Module):
    """Encoders, update block and upsampling of one architecture. Parameter names are those of the DEQ-Flow release.

    Attributes:
        scales: scales that the network was trained for, coarse to fine; None is the original size alone. `forward`
            runs one scale, `inference.Estimator` all of them
    """

    scales: Scales | None = None

    def __init__(self, size: Architecture, *, context_outputs: int) -> None:
        super().__init__()
        self.size = size
        choices: Any = {"block": size.encoder, "blocks": size.blocks, "scale": size.scale, "dropout": size.dropout}
        self.fnet = Encoder(size.features, size.stages, norm="instance", **choices)
        self.cnet = Encoder(context_outputs, size.stages, norm=size.context_norm, **choices)
        self.attn = None
        if size.attention == "global":
            self.attn = Attention(size.context, by=size.attention_by, positions=size.attention_positions)
        self.update_block = UpdateBlock(size)
        self.mask = mask_head(size.hidden, size.mask, size.scale) if size.upsampling == "convex" else None
        self._batch_norm_frozen = False

    def encode(self, image1: Tensor, image2: Tensor, base: Tensor | None = None) -> Pair:
        """Features, correlation and context of images (B, 3, H, W) with values 0..255, float or uint8.

        Args:
            base: flow (B, 2, H, W) in pixels that the flow of a state is relative to, such as a coarser scale's flow

        Raises:
            ValueError: the images are not (B, 3, H, W) of one shape, or smaller than 16 pixels; or `base` is not a flow
                of their size
        """
        check_images(image1, image2)
        height, width = image1.shape[2:]
        padding = Padding(height, width, self.size.scale)
        dtype = self.fnet.conv1.weight.dtype
        first, second = (padding.pad(2 * (image.to(dtype) / 255) - 1) for image in (image1, image2))
        features = self.fnet(torch.cat([first, second]), recompute=self.size.recompute)
        features1, features2 = rearrange(features, "(image b) c h w -> image b c h w", image=2)
        context = self.cnet(first, recompute=self.size.recompute)
        lookup = correlation(
            features1,
            features2,
            levels=self.size.levels,
            radius=self.size.radius,
            kind=self.size.correlation,
            similarity=self.size.similarity,
        )

        grid = positions(features1)
        if base is None:
            return Pair(lookup, context, grid, 0.0, lambda flow, hidden: padding.crop(self.upsample(flow, hidden)))
        check_base(base, image1)
        low = F.avg_pool2d(padding.pad(base), self.size.scale) / self.size.scale

        def finish(flow: Tensor, hidden: Tensor) -> Tensor:
            return base + padding.crop(self.upsample(flow, hidden))

        return Pair(lookup, context, grid + low, low, finish)

    def upsample(self, flow: Tensor, hidden: Tensor) -> Tensor:
        """Flow (B, 2, scale h, scale w) in pixels, from flow (B, 2, h, w) in cells and state (B, hidden, h, w)."""
        if self.mask is None:
            return bilinear_upsample(flow, self.size.scale)
        return convex_upsample(flow, self.mask(hidden), self.size.scale)

    def shared_masks(self) -> AbstractContextManager[None]:
        """A context in which the cell's dropout draws its masks only once."""
        return deq.solve_scope() if self.size.cell_dropout and self.training else nullcontext()

    def freeze_batch_norm(self, frozen: bool = True) -> Self:
        """Keeps batch normalisation in evaluation mode, also after later calls of `train()`.

        The release does so in every stage after FlyingChairs.
        """
        self._batch_norm_frozen = frozen
        return self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        if self._batch_norm_frozen:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self


def positions(features: Tensor) -> Tensor:
    """(1, 2, h, w) x and y of every cell of features (B, C, h, w), at least float32."""
    height, width = features.shape[2:]
    dtype = torch.promote_types(features.dtype, torch.float32)
    y, x = torch.meshgrid(
        torch.arange(height, dtype=dtype, device=features.device),
        torch.arange(width, dtype=dtype, device=features.device),
        indexing="ij",
    )
    return torch.stack([x, y])[None]


def check_base(base: Tensor, image: Tensor) -> None:
    """Raises ValueError unless `base` is a flow of the image's size."""
    expected = (image.shape[0], 2, *image.shape[2:])
    if tuple(base.shape) != expected:
        raise ValueError(
            f"base must be the flow {expected} in pixels of images {tuple(image.shape)}, got {tuple(base.shape)}"
        )


def check_shapes(image1: Tensor, image2: Tensor) -> None:
    """Raises ValueError unless both are (B, 3, H, W) of one size."""
    if image1.ndim != 4 or image1.shape[1] != 3 or image1.shape != image2.shape:
        raise ValueError(
            f"images must be two tensors (B, 3, H, W) of one shape, got {tuple(image1.shape)} and {tuple(image2.shape)}"
        )


def check_images(image1: Tensor, image2: Tensor) -> None:
    """Raises ValueError unless both are (B, 3, H, W) of one size, H and W at least 16."""
    check_shapes(image1, image2)
    if min(image1.shape[2:]) < 16:
        raise ValueError(
            f"images must be at least 16 pixels high and wide, got {tuple(image1.shape)}; enlarge or pad them"
        )
