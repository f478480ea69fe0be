"""The recurrent update: motion encoder, convolutional GRU, flow head (Teed & Deng 2020, 3.3)."""

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deq_core as deq
from deq_flow.config import Architecture
from deq_flow.models.attention import Aggregate
from deq_flow.models.fast_paths import channels_last, few_channels, free, more_channels, tanh_

Step = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(hidden, correlation window, flow) to (hidden, change of flow)."""


class UpdateBlock(nn.Module):
    """One evaluation of the equilibrium function, or one iteration of RAFT, without the correlation lookup."""

    def __init__(self, size: Architecture) -> None:
        super().__init__()
        self.encoder = MotionEncoder(size)
        inputs = size.motion
        if size.attention == "global":
            self.gma = Aggregate(size.motion)
            inputs += size.motion
        kernels = {"1": (1, 5), "2": (5, 1)} if size.gru == "separable" else {"": (3, 3)}
        self.gru = ConvGRU(size.hidden, size.context, inputs, kernels)
        self.flow_head = FlowHead(size.hidden, size.head)

    def forward(
        self, hidden: Tensor, context: Tensor, correlation: Tensor, flow: Tensor, attention: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The next hidden state and the change of flow, every layer called as a module.

        hidden (B, hidden, h, w), context (B, context, h, w), correlation (B, window, h, w), flow (B, 2, h, w) in cells,
        attention (B, h w, h w) where the architecture has it.
        """
        motion = self._motion(correlation, flow, attention)
        hidden = self.gru(hidden, torch.cat([context, motion], dim=1))
        return hidden, self.flow_head(hidden)

    def bind(self, context: Tensor, attention: Tensor | None = None) -> Step:
        """`forward` for one context: what the GRU makes of the context is computed here, once, and not at every step.

        A third of the GRU's products at equal widths. Equal to `forward` up to rounding, gradients included.
        """
        gru = self.gru.bind(channels_last(context))

        def step(hidden: Tensor, correlation: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
            motion = self._motion(channels_last(correlation), channels_last(flow), attention, inplace=True)
            hidden = gru(channels_last(hidden), motion)
            return hidden, self.flow_head(hidden, inplace=True)

        return step

    def with_context(self, context: Tensor, attention: Tensor | None = None) -> Step:
        """`forward` for one context, every layer called as a module at every step."""

        def step(hidden: Tensor, correlation: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
            return self(hidden, context, correlation, flow, attention)

        return step

    def _motion(self, correlation: Tensor, flow: Tensor, attention: Tensor | None, *, inplace: bool = False) -> Tensor:
        motion = self.encoder(correlation, flow, inplace=inplace)
        return motion if attention is None else torch.cat([motion, self.gma(attention, motion)], dim=1)


class MotionEncoder(nn.Module):
    """Correlation window and flow to (B, motion, h, w); the last two channels are the flow as it came."""

    def __init__(self, size: Architecture) -> None:
        super().__init__()
        first, second = size.correlation_widths[0], size.correlation_widths[-1]
        self.convc1 = nn.Conv2d(size.window, first, 1)
        self.convc2 = nn.Conv2d(first, second, 3, padding=1) if len(size.correlation_widths) == 2 else None
        self.convf1 = nn.Conv2d(2, size.flow_widths[0], 7, padding=3)
        self.convf2 = nn.Conv2d(size.flow_widths[0], size.flow_widths[1], 3, padding=1)
        self.dropc1 = deq.nn.VariationalDropout(size.cell_dropout)
        self.dropf1 = deq.nn.VariationalDropout(size.cell_dropout)
        self.conv = nn.Conv2d(second + size.flow_widths[1], size.motion - 2, 3, padding=1)

    def forward(self, correlation: Tensor, flow: Tensor, *, inplace: bool = False) -> Tensor:
        """`inplace` writes over what a convolution returned, which is faster; the delta rule remembers it, though."""
        matched = self.dropc1(F.relu(self.convc1(correlation), inplace))
        if self.convc2 is not None:
            matched = F.relu(self.convc2(matched), inplace)
        moved = F.relu(self.convf2(self.dropf1(F.relu(self.convf1(flow), inplace))), inplace)
        both = torch.cat([matched, moved], dim=1)
        if inplace and free(both):
            motion = more_channels(both, self.conv, flow.shape[1]).relu_()
            motion[:, -flow.shape[1] :] = flow
            return motion
        return torch.cat([F.relu(self.conv(both), inplace), flow], dim=1)


class ConvGRU(nn.Module):
    """A gated recurrent unit with convolutions; with two kernels, two units in a row (1x5, then 5x1).

    z = sigmoid(Wz [h, x]),  r = sigmoid(Wr [h, x]),  q = tanh(Wq [r h, x]),  h' = (1 - z) h + z q

    kernels names each unit's kernel size: {"1": (1, 5), "2": (5, 1)} makes convz1, convr1, convq1, convz2, ...
    """

    def __init__(self, hidden: int, context: int, inputs: int, kernels: dict[str, tuple[int, int]]) -> None:
        super().__init__()
        self.hidden, self.context = hidden, context
        self.units = tuple(kernels)
        for name, (height, width) in kernels.items():
            for gate in "zrq":
                conv = nn.Conv2d(hidden + context + inputs, hidden, (height, width), padding=(height // 2, width // 2))
                self.add_module(f"conv{gate}{name}", conv)

    def forward(self, hidden: Tensor, inputs: Tensor) -> Tensor:
        """The next (B, hidden, h, w) from inputs (B, context + inputs, h, w), the context first."""
        for convz, convr, convq in self._layers():
            joint = torch.cat([hidden, inputs], dim=1)
            update, reset = torch.sigmoid(convz(joint)), torch.sigmoid(convr(joint))
            candidate = torch.tanh(convq(torch.cat([reset * hidden, inputs], dim=1)))
            hidden = (1 - update) * hidden + update * candidate
        return hidden

    def bind(self, context: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """`forward` with the context's share of the six convolutions computed now, and z and r as one convolution."""
        units = [self._bind(layers, context) for layers in self._layers()]

        def step(hidden: Tensor, motion: Tensor) -> Tensor:
            for gates, gates_bias, candidate, candidate_bias, padding in units:
                joint = torch.cat([hidden, motion], dim=1)
                update, reset = F.conv2d(joint, gates, padding=padding).add_(gates_bias).sigmoid_().chunk(2, dim=1)
                if free(joint):
                    joint[:, : self.hidden] *= reset
                else:
                    joint = torch.cat([reset * hidden, motion], dim=1)
                fresh = tanh_(F.conv2d(joint, candidate, padding=padding).add_(candidate_bias))
                hidden = torch.lerp(hidden, fresh.to(hidden.dtype), update.to(hidden.dtype))
            return hidden

        return step

    def _bind(self, layers: list[nn.Conv2d], context: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, tuple[int, int]]:
        padding = (layers[0].kernel_size[0] // 2, layers[0].kernel_size[1] // 2)
        weight = torch.cat([layer.weight for layer in layers])
        bias = torch.cat([layer.bias for layer in layers if layer.bias is not None])
        of_hidden, of_context, of_motion = weight.tensor_split((self.hidden, self.hidden + self.context), dim=1)
        constant = F.conv2d(context, of_context, bias, padding=padding)
        varying = torch.cat([of_hidden, of_motion], dim=1)
        gates, candidate = (channels_last(part) for part in varying.tensor_split((2 * self.hidden,)))
        gates_bias, candidate_bias = constant.tensor_split((2 * self.hidden,), dim=1)
        return gates, gates_bias, candidate, candidate_bias, padding

    def _layers(self) -> list[list[nn.Conv2d]]:
        return [[cast(nn.Conv2d, self.get_submodule(f"conv{gate}{name}")) for gate in "zrq"] for name in self.units]


class FlowHead(nn.Module):
    """Hidden state to a change of flow (B, 2, h, w)."""

    def __init__(self, hidden: int, inner: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(hidden, inner, 3, padding=1)
        self.conv2 = nn.Conv2d(inner, 2, 3, padding=1)

    def forward(self, hidden: Tensor, *, inplace: bool = False) -> Tensor:
        """`inplace` is that of the motion encoder."""
        inner = F.relu(self.conv1(hidden), inplace)
        return few_channels(inner, self.conv2) if inplace and free(inner) else self.conv2(inner)
