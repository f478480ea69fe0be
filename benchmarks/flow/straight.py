"""A direct port of DEQ-Flow's released computation, the baseline of `inference_time`.

It is for evaluation only. All tensors are (B, C, H, W) in memory too. Context and motion are concatenated at every
step, and the three convolutions of each unit read all of hidden state, context and motion. Correlations are read from
the stored volume by `grid_sample`, with one grid for each level. The weights are those of a network of this package.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deq_flow.export import plain
from deq_flow.models import DEQFlow
from deq_flow.models.encoder import Encoder, ResidualBlock
from deq_flow.models.padding import Padding


class Straight:
    """The released forward pass with the weights of `network`."""

    def __init__(self, network: DEQFlow) -> None:
        copy = plain(network)
        assert isinstance(copy, DEQFlow)
        self.network, self.size = copy, copy.size
        if self.size.attention != "none" or self.size.gru != "separable" or self.size.similarity != "dot":
            raise ValueError("the straight port knows DEQ-Flow T, B, L, H and G, without attention")

    @torch.inference_mode()
    def __call__(self, image1: Tensor, image2: Tensor, steps: int) -> Tensor:
        """Flow (B, 2, H, W), pixels, after `steps` evaluations from zero.

        As in version 2, a state is taken if its residual is less than 1 above the lowest one so far.
        """
        padding = Padding(image1.shape[2], image1.shape[3], self.size.scale)
        volumes, context, grid = self.encode(image1, image2)
        start = context.new_zeros(len(context), self.size.hidden, *context.shape[2:])
        state = best = joined(start, grid)
        lowest = torch.full_like(state[:, 0], torch.inf)
        for _ in range(steps):
            hidden, position = state.split([start[0].numel(), grid[0].numel()], dim=1)
            image = joined(*self.step(hidden.view_as(start), position.view_as(grid), context, grid, volumes))
            residual = (image - state).norm(dim=1)
            best = torch.where((residual < lowest + 1)[:, None], image, best)
            lowest = torch.minimum(residual, lowest)
            state = image
        hidden, position = best.split([start[0].numel(), grid[0].numel()], dim=1)
        return padding.crop(self.upsample(position.view_as(grid) - grid, hidden.view_as(start)))

    def encode(self, image1: Tensor, image2: Tensor) -> tuple["Volumes", Tensor, Tensor]:
        """Correlations, context and the position of each cell."""
        padding = Padding(image1.shape[2], image1.shape[3], self.size.scale)
        first, second = (2 * (padding.pad(image) / 255) - 1 for image in (image1, image2))
        features1, features2 = features(self.network.fnet, torch.cat([first, second])).chunk(2)
        volumes = Volumes(features1, features2, self.size.levels, self.size.radius)
        context = torch.relu(features(self.network.cnet, first))
        return volumes, context, pixel_grid(context)

    def step_of(self, image1: Tensor, image2: Tensor) -> Callable[[], tuple[Tensor, Tensor]]:
        """A function that makes the first evaluation for a pair, which is encoded now."""
        volumes, context, grid = self.encode(image1, image2)
        hidden = context.new_zeros(len(context), self.size.hidden, *context.shape[2:])
        return lambda: self.step(hidden, grid, context, grid, volumes)

    def step(
        self, hidden: Tensor, position: Tensor, context: Tensor, grid: Tensor, volumes: "Volumes"
    ) -> tuple[Tensor, Tensor]:
        """One evaluation: the next hidden state and position."""
        block, flow = self.network.update_block, position - grid
        encoder, gru, head = block.encoder, block.gru, block.flow_head
        assert encoder.convc2 is not None
        matched = torch.relu(encoder.convc2(torch.relu(encoder.convc1(volumes.windows(position)))))
        moved = torch.relu(encoder.convf2(torch.relu(encoder.convf1(flow))))
        motion = torch.cat([torch.relu(encoder.conv(torch.cat([matched, moved], dim=1))), flow], dim=1)
        inputs = torch.cat([context, motion], dim=1)
        for unit in gru.units:
            convz, convr, convq = (gru.get_submodule(f"conv{gate}{unit}") for gate in "zrq")
            joint = torch.cat([hidden, inputs], dim=1)
            update, reset = torch.sigmoid(convz(joint)), torch.sigmoid(convr(joint))
            fresh = torch.tanh(convq(torch.cat([reset * hidden, inputs], dim=1)))
            hidden = (1 - update) * hidden + update * fresh
        return hidden, position + head.conv2(torch.relu(head.conv1(hidden)))

    def upsample(self, flow: Tensor, hidden: Tensor) -> Tensor:
        """Each pixel as a convex combination of the nine cells around its own."""
        assert self.network.mask is not None
        (batch, _, height, width), scale = flow.shape, self.size.scale
        logits = 0.25 * self.network.mask(hidden)
        weights = torch.softmax(logits.view(batch, 1, 9, scale, scale, height, width), dim=2)
        cells = F.unfold(scale * flow, (3, 3), padding=1).view(batch, 2, 9, 1, 1, height, width)
        pixels = (weights * cells).sum(dim=2).permute(0, 1, 4, 2, 5, 3)
        return pixels.reshape(batch, 2, scale * height, scale * width)


class Volumes:
    """Correlations of all pairs: at each level, a map of the second image for each cell of the first."""

    def __init__(self, features1: Tensor, features2: Tensor, levels: int, radius: int) -> None:
        batch, channels, height, width = features1.shape
        products = features1.flatten(2).transpose(1, 2) @ features2.flatten(2) / channels**0.5
        maps = [products.view(batch * height * width, 1, height, width)]
        for _ in range(levels - 1):
            maps.append(F.avg_pool2d(maps[-1], 2, stride=2))
        self.levels, self.radius = maps, radius

    def windows(self, position: Tensor) -> Tensor:
        """Windows (B, levels (2r + 1)^2, h, w) around position (B, 2, h, w); in a level the x offset varies slowest."""
        batch, _, height, width = position.shape
        offset = torch.linspace(-self.radius, self.radius, 2 * self.radius + 1, device=position.device)
        shift = torch.stack(torch.meshgrid(offset, offset, indexing="ij"), dim=-1)[None]
        centre = position.permute(0, 2, 3, 1).reshape(-1, 1, 1, 2)
        out = []
        for level, volume in enumerate(self.levels):
            tall, wide = volume.shape[2:]
            x, y = (centre / 2**level + shift).split(1, dim=-1)
            grid = torch.cat([2 * x / (wide - 1) - 1, 2 * y / (tall - 1) - 1], dim=-1)
            window = F.grid_sample(volume, grid, align_corners=True)
            out.append(window.view(batch, height, width, -1))
        return torch.cat(out, dim=-1).permute(0, 3, 1, 2).contiguous()


def features(encoder: Encoder, images: Tensor) -> Tensor:
    """Features of images, layer by layer as in the release."""
    x = torch.relu(norm(encoder.norm1, encoder.conv1(images)))
    for block in (*encoder.layer1, *encoder.layer2, *encoder.layer3):
        assert isinstance(block, ResidualBlock)
        y = torch.relu(norm(block.norm1, block.conv1(x)))
        y = torch.relu(norm(block.norm2, block.conv2(y)))
        if isinstance(block.downsample, nn.Sequential):
            x = norm(block.downsample[1], block.downsample[0](x))
        x = torch.relu(x + y)
    return encoder.conv2(x)


def norm(module: nn.Module, x: Tensor) -> Tensor:
    """Batch normalisation by running statistics, or PyTorch's instance normalisation."""
    return module(x) if isinstance(module, nn.BatchNorm2d) else F.instance_norm(x)


def joined(hidden: Tensor, position: Tensor) -> Tensor:
    """The flat state of the solver, (B, elements)."""
    return torch.cat([hidden.flatten(1), position.flatten(1)], dim=1)


def pixel_grid(features: Tensor) -> Tensor:
    """x and y of each cell, (B, 2, h, w)."""
    batch, _, height, width = features.shape
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([x, y]).float()[None].repeat(batch, 1, 1, 1)
