"""Recognises the network of a state dict by its names and shapes."""

import math
import re
from collections.abc import Mapping

from torch import Tensor

from deq_flow.config import Architecture
from deq_flow.sizes import BASE

GAIN, DIRECTION = ".parametrizations.weight.original0", ".parametrizations.weight.original1"
"""Suffixes of the names of lengths and directions of weight normalisation."""

State = Mapping[str, Tensor]


def architecture_of(state: State) -> Architecture:
    """The architecture whose parameters have these shapes, by the names used here.

    Fields that do not affect the shapes, or whose keys are missing, are those of `BASE`.
    """
    gru, encoder = "update_block.gru.conv", "update_block.encoder."
    square = f"{gru}z.bias" in state
    hidden = _shape(state, f"{gru}z.bias" if square else f"{gru}z1.bias", (BASE.hidden,))[0]
    motion = _shape(state, f"{encoder}conv.bias", (BASE.motion - 2,))[0] + 2
    attention = "attn.to_qk.weight" in state
    wide = hidden + BASE.context + motion * (2 if attention else 1)
    inputs = _weight_shape(state, f"{gru}z" if square else f"{gru}z1", (hidden, wide))[1]
    matched = [f"{encoder}convc{i}.bias" for i in (1, 2)]
    window = _weight_shape(state, f"{encoder}convc1", (0, BASE.window))[1]
    bottleneck = "fnet.layer1.0.conv3.weight" in state
    last = "conv3" if bottleneck else "conv2"
    return Architecture(
        encoder="bottleneck" if bottleneck else "residual",
        stages=(
            _shape(state, f"fnet.layer1.0.{last}.bias", (BASE.stages[0],))[0],
            _shape(state, f"fnet.layer2.0.{last}.bias", (BASE.stages[1],))[0],
            _shape(state, f"fnet.layer3.0.{last}.bias", (BASE.stages[2],))[0],
        ),
        features=_shape(state, "fnet.conv2.bias", (BASE.features,))[0],
        context_norm="batch" if any(re.match(r"cnet\..*running_mean", name) for name in state) else "none",
        hidden=hidden,
        context=inputs - hidden - motion * (2 if attention else 1),
        levels=BASE.levels,
        radius=(math.isqrt(window // BASE.levels) - 1) // 2,
        correlation_widths=tuple(state[name].shape[0] for name in matched if name in state) or BASE.correlation_widths,
        flow_widths=(
            _shape(state, f"{encoder}convf1.bias", (BASE.flow_widths[0],))[0],
            _shape(state, f"{encoder}convf2.bias", (BASE.flow_widths[1],))[0],
        ),
        motion=motion,
        gru="square" if square else "separable",
        head=_shape(state, "update_block.flow_head.conv1.bias", (BASE.head,))[0],
        upsampling="convex" if any(name.startswith("mask.") for name in state) else "bilinear",
        mask=_shape(state, "mask.0.bias", (BASE.mask,))[0],
        attention="global" if attention else "none",
        attention_positions=(_shape(state, "attn.pos_emb.rel_height.weight", (-1,))[0] + 1) // 2,
    )


def is_unrolled(state: State, size: Architecture) -> bool:
    """Whether the context encoder initialises the hidden state, as in RAFT; it then has more outputs than context."""
    return _shape(state, "cnet.conv2.bias", _shape(state, "cnet.conv2.weight", (size.context,)))[0] != size.context


def is_weight_normed(state: State) -> bool:
    """Whether the state dict has normalised weights, as lengths and directions."""
    return any(name.endswith(GAIN) for name in state)


def _shape(state: State, name: str, otherwise: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(state[name].shape) if name in state else otherwise


def _weight_shape(state: State, layer: str, otherwise: tuple[int, ...]) -> tuple[int, ...]:
    return _shape(state, layer + DIRECTION, _shape(state, layer + ".weight", otherwise))
