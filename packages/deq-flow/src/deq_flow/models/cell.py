"""The recurrent update: motion encoder, convolutional GRU, flow head (Teed & Deng 2020, 3.3)."""

from collections.abc import Callable, Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import deq_core as deq
from deq_flow.config import Architecture
from deq_flow.models.attention import Aggregate
from deq_flow.models.fast_paths import FlowConv, channels_last, tanh_

Step = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(hidden, correlation window, flow) to (hidden, change of flow)."""

Unit = tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]
"""Two functions of a GRU's input: one gives z and r, concatenated, the other q."""


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

    def bind(self, context: Tensor, attention: Tensor | None = None) -> Step:
        """`forward` for one context, whose convolutions in the GRU are computed here once rather than at every step.

        At equal widths this saves a third of the GRU's multiplications. Equal to `forward` up to rounding, gradients
        included.
        """
        gru = self.gru.bind(channels_last(context))

        def step(hidden: Tensor, correlation: Tensor, flow: Tensor) -> tuple[Tensor, Tensor]:
            motion = self._motion(channels_last(correlation), channels_last(flow), attention)
            hidden = gru(channels_last(hidden), motion)
            return hidden, self.flow_head(hidden)

        return step

    def forward(
        self, hidden: Tensor, context: Tensor, correlation: Tensor, flow: Tensor, attention: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The next hidden state and the change of flow. Calls every layer as a module, so that the delta rule applies.

        hidden (B, hidden, h, w), context (B, context, h, w), correlation (B, window, h, w), flow (B, 2, h, w) in cells,
        attention (B, h w, h w) if the architecture has it.
        """
        motion = self._motion(correlation, flow, attention)
        hidden = self.gru(hidden, torch.cat([context, motion], dim=1))
        return hidden, self.flow_head(hidden)

    def _motion(self, correlation: Tensor, flow: Tensor, attention: Tensor | None) -> Tensor:
        motion = self.encoder(correlation, flow)
        return motion if attention is None else torch.cat([motion, self.gma(attention, motion)], dim=1)


class MotionEncoder(nn.Module):
    """Motion features (B, motion, h, w) from correlation window and flow; the last two channels are the flow itself."""

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
        self.relu = nn.ReLU(inplace=True)

    def forward(self, correlation: Tensor, flow: Tensor) -> Tensor:
        matched = self.dropc1(self.relu(self.convc1(correlation)))
        if self.convc2 is not None:
            matched = self.relu(self.convc2(matched))
        moved = self.relu(self.convf2(self.dropf1(self.relu(self.convf1(flow)))))
        motion = self.relu(self.conv(torch.cat([matched, moved], dim=1)))
        return torch.cat([motion, flow], dim=1)


class ConvGRU(nn.Module):
    """A gated recurrent unit with convolutions; with two kernels, two units in a row (1x5, then 5x1).

    z = sigmoid(Wz [h, x]),  r = sigmoid(Wr [h, x]),  q = tanh(Wq [r h, x]),  h' = (1 - z) h + z q

    kernels has each unit's kernel size by name: {"1": (1, 5), "2": (5, 1)} makes convz1, convr1, convq1, convz2, ...
    """

    def __init__(self, hidden: int, context: int, inputs: int, kernels: dict[str, tuple[int, int]]) -> None:
        super().__init__()
        self.hidden, self.context = hidden, context
        self.units = tuple(kernels)
        for name, (height, width) in kernels.items():
            for gate in "zrq":
                conv = nn.Conv2d(hidden + context + inputs, hidden, (height, width), padding=(height // 2, width // 2))
                self.add_module(f"conv{gate}{name}", conv)

    def bind(self, context: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """`forward` for one context, whose convolutions are computed now, as a function of hidden and other inputs."""
        units = [self._hoisted(context, *convolutions) for convolutions in self._convolutions()]
        return lambda hidden, inputs: _through(units, hidden, inputs)

    def forward(self, hidden: Tensor, inputs: Tensor) -> Tensor:
        """The next (B, hidden, h, w) from inputs (B, context + inputs, h, w), the context first."""
        return _through([_whole(*convolutions) for convolutions in self._convolutions()], hidden, inputs)

    def _hoisted(self, context: Tensor, convz: nn.Conv2d, convr: nn.Conv2d, convq: nn.Conv2d) -> Unit:
        """A unit of [hidden, x]: the convolutions of the context are constants, and Wz and Wr are one convolution."""
        gates, candidate = self._of_the_rest(context, convz, convr), self._of_the_rest(context, convq)
        return lambda rest: gates(rest).sigmoid_(), lambda rest: tanh_(candidate(rest))

    def _of_the_rest(self, context: Tensor, *layers: nn.Conv2d) -> Callable[[Tensor], Tensor]:
        """The concatenated outputs of convolutions of [hidden, context, x], as a function of [hidden, x]."""
        padding = cast(tuple[int, int], layers[0].padding)
        weight = torch.cat([layer.weight for layer in layers])
        bias = torch.cat([layer.bias for layer in layers if layer.bias is not None])
        of_hidden, of_context, of_x = weight.tensor_split((self.hidden, self.hidden + self.context), dim=1)
        constant = F.conv2d(context, of_context, bias, padding=padding)
        of_rest = channels_last(torch.cat([of_hidden, of_x], dim=1))
        return lambda rest: F.conv2d(rest, of_rest, padding=padding).add_(constant)

    def _convolutions(self) -> list[list[nn.Conv2d]]:
        return [[cast(nn.Conv2d, self.get_submodule(f"conv{gate}{name}")) for gate in "zrq"] for name in self.units]


def _whole(convz: nn.Conv2d, convr: nn.Conv2d, convq: nn.Conv2d) -> Unit:
    """A unit of [hidden, context, x], its convolutions called as modules."""
    return lambda x: torch.sigmoid(torch.cat([convz(x), convr(x)], dim=1)), lambda x: torch.tanh(convq(x))


def _through(units: Sequence[Unit], hidden: Tensor, inputs: Tensor) -> Tensor:
    """The hidden state after all units, applied in order."""
    for gates, candidate in units:
        update, reset = gates(torch.cat([hidden, inputs], dim=1)).chunk(2, dim=1)
        fresh = candidate(torch.cat([reset * hidden, inputs], dim=1))
        hidden = torch.lerp(hidden, fresh.to(hidden.dtype), update.to(hidden.dtype))
    return hidden


class FlowHead(nn.Module):
    """The change of flow (B, 2, h, w) from the hidden state."""

    def __init__(self, hidden: int, inner: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(hidden, inner, 3, padding=1)
        self.conv2 = FlowConv(inner)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.conv2(self.relu(self.conv1(hidden)))
