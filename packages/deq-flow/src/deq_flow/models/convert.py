"""Released checkpoints: DEQ-Flow versions 1 and 2, torchdeq's zoo, RAFT, GMA, and torchvision's names for RAFT."""

import math
import re
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deq_flow.config import BASE, Architecture, Equilibrium
from deq_flow.models.deq_flow import DEQFlow
from deq_flow.models.raft import RAFT

# Each rule is applied to every key, in order.
RENAMES = (
    (r"^update_block\.mask\.", "mask."),  # version 1, RAFT, GMA
    (r"^att\.", "attn."),  # GMA
    (r"^update_block\.aggregator\.", "update_block.gma."),
    (r"\.weight_g$", ".parametrizations.weight.original0"),
    (r"\.weight_v$", ".parametrizations.weight.original1"),
    (r"^feature_encoder\.", "fnet."),  # torchvision
    (r"^context_encoder\.", "cnet."),
    (r"^([fc]net)\.convnormrelu\.0\.", r"\1.conv1."),
    (r"^([fc]net)\.convnormrelu\.1\.", r"\1.norm1."),
    (r"^([fc]net)\.conv\.", r"\1.conv2."),
    (r"\.convnormrelu(\d)\.0\.", r".conv\1."),
    (r"\.convnormrelu(\d)\.1\.", r".norm\1."),
    (r"^update_block\.motion_encoder\.convcorr(\d)\.0\.", r"update_block.encoder.convc\1."),
    (r"^update_block\.motion_encoder\.convflow(\d)\.0\.", r"update_block.encoder.convf\1."),
    (r"^update_block\.motion_encoder\.conv\.0\.", "update_block.encoder.conv."),
    (r"^update_block\.recurrent_block\.convgru(\d)\.conv([zrq])\.", r"update_block.gru.conv\2\1."),
    (r"^mask_predictor\.convrelu\.0\.", "mask.0."),
    (r"^mask_predictor\.conv\.", "mask.2."),
)
# GMA saves relative position embeddings that its released, content-only attention never reads.
UNUSED = r"^attn\.pos_emb\."
# The shortcut's norm of a residual block is saved twice in the releases, under both names.
SHORTCUT = re.compile(r"^(cnet\.layer[23]\.0)\.norm3\.")
GAIN, DIRECTION = ".parametrizations.weight.original0", ".parametrizations.weight.original1"


class CheckpointError(ValueError):
    """A file that is not the checkpoint of a network known here."""


def load_released(path: Path | str, **overrides: Any) -> DEQFlow | RAFT:
    """The network in a released file, its variant found from names and shapes; in evaluation mode.

    overrides are fields of `Equilibrium` (solver, stop, adjoint, weight_norm, ...), or steps and eval_steps for RAFT.
    Raises CheckpointError for a file that holds anything else, listing what is missing, unexpected and misshapen.
    """
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path}: expected a dictionary of tensors (a state_dict), got {type(state).__name__}")
    try:
        return from_released(state, **overrides)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def from_released(state: Mapping[str, Tensor], **overrides: Any) -> DEQFlow | RAFT:
    """The network that a released state dict belongs to, with its weights. See `load_released`."""
    state = renamed(state)
    size = architecture_of(state)
    normed = any(name.endswith(GAIN) for name in state)
    unrolled = not normed and _shape(state, "cnet.conv2.bias", (size.context,))[0] != size.context
    with torch.device("meta"):  # no time is spent on initial weights
        if unrolled:
            model = RAFT(size, **_only(overrides, {"steps", "eval_steps"}))
        else:
            choices = _only(overrides, {field.name for field in fields(Equilibrium)})
            model = DEQFlow(size, Equilibrium(**{"weight_norm": normed, **choices}))
            if model.equilibrium.weight_norm != normed:
                state = split(state) if model.equilibrium.weight_norm else fused(state)
    _check(state, model.state_dict())
    model.load_state_dict({name: value.clone() for name, value in state.items()}, assign=True)
    return model.eval()


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` under the names used here."""
    prefix = "module." if all(name.startswith("module.") for name in state) else ""
    out: dict[str, Tensor] = {}
    for name, value in state.items():
        name = name.removeprefix(prefix)
        for pattern, replacement in RENAMES:
            name = re.sub(pattern, replacement, name)
        if not re.match(UNUSED, name):
            out[name] = value
    if "update_block.gru.convz1.weight" in out and "update_block.gru.convz2.weight" not in out:
        out = {re.sub(r"^(update_block\.gru\.conv[zrq])1\.", r"\1.", name): value for name, value in out.items()}
    for name in [name for name in out if SHORTCUT.match(name)]:
        value = out.pop(name)
        out.setdefault(SHORTCUT.sub(r"\1.downsample.1.", name), value)
    for name in [name for name in out if name.endswith(".running_mean")]:
        out.setdefault(name.replace("running_mean", "num_batches_tracked"), torch.tensor(0))
    return out


def architecture_of(state: Mapping[str, Tensor]) -> Architecture:
    """The architecture whose parameters have these shapes; what cannot be seen is as in `BASE`."""
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
    convex = any(name.startswith("mask.") for name in state)
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
        upsampling="convex" if convex else "bilinear",
        mask=_shape(state, "mask.0.bias", (BASE.mask,))[0],
        attention="global" if attention else "none",
    )


def fused(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weight normalisation resolved: w = g v / |v|, the length taken over all dimensions but the first."""
    out: dict[str, Tensor] = {}
    for name, value in state.items():
        if name.endswith(DIRECTION):
            length = value.flatten(1).norm(dim=1).view(-1, *[1] * (value.dim() - 1))
            gain = state[name.removesuffix(DIRECTION) + GAIN]
            out[name.removesuffix(DIRECTION) + ".weight"] = value * (gain / length)
        elif not name.endswith(GAIN):
            out[name] = value
    return out


def split(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The update block's weights as a length g = |w| and a direction v = w; the inverse of `fused` in effect."""
    out: dict[str, Tensor] = {}
    for name, value in state.items():
        if name.startswith("update_block.") and name.endswith(".weight"):
            stem = name.removesuffix(".weight")
            out[stem + GAIN] = value.flatten(1).norm(dim=1).view(-1, *[1] * (value.dim() - 1))
            out[stem + DIRECTION] = value
        else:
            out[name] = value
    return out


def _check(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    problems = [f"missing {name} {tuple(expected[name].shape)}" for name in expected if name not in state]
    problems += [f"unexpected {name} {tuple(state[name].shape)}" for name in state if name not in expected]
    problems += [
        f"misshapen {name}: expected {tuple(expected[name].shape)}, got {tuple(state[name].shape)}"
        for name in expected
        if name in state and state[name].shape != expected[name].shape
    ]
    if problems:
        raise CheckpointError("not a complete checkpoint of a known flow network:\n  " + "\n  ".join(problems))


def _only(overrides: Mapping[str, Any], known: set[str]) -> Mapping[str, Any]:
    if unknown := sorted(overrides.keys() - known):
        raise ValueError(
            f"a network of this kind has no option {', '.join(unknown)}; it has {', '.join(sorted(known))}"
        )
    return overrides


def _shape(state: Mapping[str, Tensor], name: str, otherwise: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(state[name].shape) if name in state else otherwise


def _weight_shape(state: Mapping[str, Tensor], layer: str, otherwise: tuple[int, ...]) -> tuple[int, ...]:
    return _shape(state, layer + DIRECTION, _shape(state, layer + ".weight", otherwise))
