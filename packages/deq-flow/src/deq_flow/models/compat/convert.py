"""Released checkpoints: DEQ-Flow versions 1 and 2, torchdeq's zoo, RAFT, GMA, and torchvision's names for RAFT."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deq_core.experiment.checkpoints import checkpoint
from deq_core.experiment.checkpoints import state_dict as state_dicts
from deq_core.experiment.checkpoints.checkpoint import CheckpointError, filled, outlined
from deq_core.experiment.checkpoints.state_dict import state_dict
from deq_flow.config import Converted
from deq_flow.models.build import assemble, check_overrides
from deq_flow.models.compat.recognise import DIRECTION, GAIN, architecture_of, is_unrolled, is_weight_normed
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
# An index buffer that GMA saves; it follows from the size of the table of relative positions.
DERIVED = r"^attn\.pos_emb\.rel_ind$"
# The releases save the norm of a residual block's shortcut twice, under both names.
SHORTCUT = re.compile(r"^(cnet\.layer[23]\.0)\.norm3\.")


INCOMPLETE = "not a complete checkpoint of a known flow network"


@dataclass(frozen=True)
class Recognised:
    """A state dict with the names used here, and its network."""

    state: dict[str, Tensor]
    about: Converted


def read_released(path: Path | str) -> Recognised:
    """The state dict in a released file (.pth, or .safetensors with any of the known names), and its network.

    Raises CheckpointError for any other file.
    """
    with checkpoint.naming(path):
        return recognised(checkpoint.load_tensors(Path(path)))


def recognised(state: Mapping[str, Tensor]) -> Recognised:
    """The network of a state dict, recognised by names and shapes."""
    state = renamed(state)
    try:
        size = architecture_of(state)
    except (ArithmeticError, IndexError, ValueError) as error:
        raise CheckpointError(f"the shapes are those of no known flow network: {error}") from error
    family = "raft" if is_unrolled(state, size) else "deq-flow"
    return Recognised(state, Converted(family=family, architecture=size, weight_norm=is_weight_normed(state)))


def load_released(path: Path | str, **overrides: Any) -> DEQFlow | RAFT:
    """The network in a released file, in evaluation mode; its variant is recognised by names and shapes.

    overrides are fields of `Equilibrium` (solver, stop, adjoint, weight_norm, ...), or steps and eval_steps for RAFT,
    `scales`, and the fields of `Architecture` in `build.WEIGHTLESS` (correlation, attention_by, dropout, cell_dropout,
    recompute).

    Raises:
        CheckpointError: any other file; the message lists missing, unexpected and misshapen tensors.
        ValueError: an unknown override or value.
        TypeError: as in `build`.
    """
    with checkpoint.naming(path):
        return network_of(read_released(path), **overrides)


def from_released(state: Mapping[str, Tensor], **overrides: Any) -> DEQFlow | RAFT:
    """The network of a released state dict, with its weights. See `load_released`."""
    return network_of(recognised(state_dict(state)), **overrides)


def network_of(found: Recognised, **overrides: Any) -> DEQFlow | RAFT:
    """The network of a recognised state dict, in evaluation mode; half-precision weights become float32."""
    state, about = found.state, found.about
    check_overrides("a network of this kind", overrides, about.family)
    if about.family == "deq-flow":
        overrides = {"weight_norm": about.weight_norm, **overrides}
        if overrides["weight_norm"] != about.weight_norm:
            state = split(state) if overrides["weight_norm"] else fused(state)
    network = outlined(lambda: assemble(about.family, about.architecture, overrides), state)
    return filled(network, state, refusal=INCOMPLETE, widened=True)


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` with the names used here."""
    names = {name: reduce(lambda name, rule: re.sub(*rule, name), RENAMES, name) for name in state}
    out = state_dicts.renamed(state, {old: new for old, new in names.items() if not re.match(DERIVED, new)})
    if "update_block.gru.convz1.weight" in out and "update_block.gru.convz2.weight" not in out:
        out = {re.sub(r"^(update_block\.gru\.conv[zrq])1\.", r"\1.", name): value for name, value in out.items()}
    for name in [name for name in out if SHORTCUT.match(name)]:
        value, twin = out.pop(name), SHORTCUT.sub(r"\1.downsample.1.", name)
        if not torch.equal(out.setdefault(twin, value), value):
            raise CheckpointError(f"{name} and {twin} are one tensor, which the file has with two values")
    for name in [name for name in out if name.endswith(".running_mean")]:
        out.setdefault(name.replace("running_mean", "num_batches_tracked"), torch.tensor(0))
    return out


def fused(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights w = g v / |v| of weight normalisation, with the norm over all dimensions but the first."""
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
    """The update block's weights as lengths g = |w| and directions v = w; `fused` reverses it."""
    out: dict[str, Tensor] = {}
    for name, value in state.items():
        if name.startswith("update_block.") and name.endswith(".weight"):
            stem = name.removesuffix(".weight")
            out[stem + GAIN] = value.flatten(1).norm(dim=1).view(-1, *[1] * (value.dim() - 1))
            out[stem + DIRECTION] = value
        else:
            out[name] = value
    return out
