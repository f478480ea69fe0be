"""Loads released checkpoints of DEQ-Transformer, the state dicts of the released code."""

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deq_core.experiment.checkpoints import state_dict as state_dicts
from deq_core.experiment.checkpoints.checkpoint import CheckpointError, filled, load_tensors, misfits, naming, outlined
from deq_core.experiment.checkpoints.state_dict import state_dict
from deq_sequence.config import VARIANTS, Architecture
from deq_sequence.models.build import split
from deq_sequence.models.positions import frequencies
from deq_sequence.models.transformer import DEQTransformer

# All rules are applied to every key, in order.
RENAMES = (
    (r"^word_emb\.emb_layers\.", "embedding.tables."),
    (r"^word_emb\.emb_projs\.", "embedding.projections."),
    (r"^inject_conv\.", "injection."),
    (r"^func\.dec_attn\.r_w_bias$", "cell.attention.content_bias"),
    (r"^func\.dec_attn\.r_r_bias$", "cell.attention.position_bias"),
    (r"^func\.dec_attn\.qkv_net\.", "cell.attention.qkv."),
    (r"^func\.dec_attn\.r_net\.", "cell.attention.position."),
    (r"^func\.dec_attn\.o_net\.", "cell.attention.output."),
    (r"^func\.pos_ff\.ff1_net\.", "cell.expand."),
    (r"^func\.pos_ff\.ff2_net\.", "cell.contract."),
    (r"\.weight_g$", ".parametrizations.weight.original0"),
    (r"\.weight_v$", ".parametrizations.weight.original1"),
    (r"^crit\.cluster_(weight|bias)$", r"softmax.cluster_\1"),
    (r"^crit\.out_layers\.(\d+)\.bias$", r"softmax.biases.\1"),
    (r"^crit\.out_layers\.(\d+)\.weight$", r"softmax.tables.\1"),
    (r"^crit\.out_projs\.(\d+)\.weight$", r"softmax.projections.\1"),
)
# Weights of layers that are linear here and convolutions of length 1 in the release.
CONVOLUTIONS = r"(injection|cell\.attention\.(qkv|position|output))\..*weight"
FREQUENCIES = "pos_emb.inv_freq"


def load_released(path: Path, *, variant: str = "wt103", **overrides: Any) -> DEQTransformer:
    """Loads the network in a released file, in evaluation mode; its sizes are inferred from names and shapes.

    Settings that these do not show (position of layer norm, dropout, horizon, solver, memory) come from `variant`, a
    name that `build` accepts, or from overrides. Raises CheckpointError if the file holds anything else; the message
    lists missing, unexpected and misshapen tensors.
    """
    with naming(path):
        return from_released(read_released(path), variant=variant, **overrides)


def read_released(path: Path) -> dict[str, Tensor]:
    """The tensors in a file written by torch.save, under the names in the file; runs no code from it."""
    try:
        return load_tensors(path)
    except CheckpointError as error:
        raise CheckpointError(
            f"{error} (of the release's files model_state_dict.pth has the tensors, model.pt is a whole model)"
        ) from error


def from_released(state: Mapping[str, Tensor], *, variant: str = "wt103", **overrides: Any) -> DEQTransformer:
    """The network with the weights of a released state dict. See `load_released`."""
    if variant not in VARIANTS:
        raise ValueError(f"unknown network {variant!r}; known are {', '.join(VARIANTS)}")
    state = renamed(state_dict(state))
    of_size, of_equilibrium = split(overrides)
    try:
        found = recognised(state, VARIANTS[variant][0])
    except (ValueError, IndexError, ZeroDivisionError) as error:
        raise CheckpointError(f"the shapes are those of no DEQ-Transformer: {error}") from error
    size = replace(found, **of_size)
    equilibrium = replace(VARIANTS[variant][1], **of_equilibrium)
    model = outlined(lambda: DEQTransformer(size, equilibrium), state)
    expected, copies = model.state_dict(), tied(size)
    if complaints := misfits(state, {**expected, **{copy: expected[original] for copy, original in copies.items()}}):
        listed = "\n  ".join(complaints)
        raise CheckpointError(f"not a complete checkpoint of a DEQ-Transformer:\n  {listed}")
    for copy, original in copies.items():
        if not torch.equal(state[copy], state[original]):
            raise CheckpointError(
                f"{copy} differs from {original}, so they cannot be tied: leave out tied_tables and tied_projections, "
                "which the file determines"
            )
    return filled(model, {name: state[name] for name in expected})


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` under the names and with the shapes of this package."""
    if FREQUENCIES in state:
        check_frequencies(state[FREQUENCIES])
    names = {name: reduce(lambda name, rule: re.sub(*rule, name), RENAMES, name) for name in state}
    out = state_dicts.renamed(state, {old: new for old, new in names.items() if old != FREQUENCIES})
    return {
        name: value.squeeze(-1) if re.match(CONVOLUTIONS, name) and value.dim() == 3 else value
        for name, value in out.items()
    }


def recognised(state: Mapping[str, Tensor], otherwise: Architecture) -> Architecture:
    """The architecture whose parameters have these shapes; whatever shapes do not show comes from `otherwise`."""
    tables = _numbered(state, "embedding.tables.", ".weight")
    width = _shape(state, "injection.weight", (3 * otherwise.attention, otherwise.width))[-1]
    heads, head_width = _shape(state, "cell.attention.content_bias", (otherwise.heads, otherwise.head_width))
    rows = [table.shape[0] for table in tables] or [otherwise.vocabulary]
    widths = [table.shape[1] for table in tables] or [width]
    projected = "embedding.projections.0.weight" in state
    return replace(
        otherwise,
        vocabulary=sum(rows),
        cutoffs=tuple(sum(rows[:cluster]) for cluster in range(1, len(rows))),
        division=_division(widths) if projected else 1,
        embedding=widths[0],
        width=width,
        heads=heads,
        head_width=head_width,
        inner=_shape(state, "cell.expand.bias", (otherwise.inner,))[0],
        weight_norm=any(name.endswith(".original0") for name in state),
        tied_tables=all(_same(state, f"softmax.tables.{i}", f"embedding.tables.{i}.weight") for i in range(len(rows))),
        tied_projections=tuple(
            _same(state, f"softmax.projections.{i}", f"embedding.projections.{i}.weight") for i in range(len(rows))
        )
        if projected
        else (),
    )


def tied(size: Architecture) -> dict[str, str]:
    """Tensors that a released file holds twice and a model once: name in the softmax → name in the embedding."""
    clusters = range(len(size.widths))
    tables = [i for i in clusters if size.tied_tables]
    projections = [i for i, is_tied in enumerate(size.tied_projections) if is_tied]
    return {
        **{f"softmax.tables.{i}": f"embedding.tables.{i}.weight" for i in tables},
        **{f"softmax.projections.{i}": f"embedding.projections.{i}.weight" for i in projections},
    }


def check_frequencies(stored: Tensor) -> None:
    """Raises CheckpointError if the checkpoint embeds positions with other frequencies."""
    expected = frequencies(2 * stored.numel(), torch.float32, torch.device("cpu"))
    if stored.dim() != 1 or not torch.allclose(stored.float(), expected, rtol=1e-3, atol=0):
        raise CheckpointError(f"{FREQUENCIES}: expected 10000^(-2i / width) for each i, got other numbers")


def _numbered(state: Mapping[str, Tensor], before: str, after: str) -> list[Tensor]:
    found = []
    while (name := f"{before}{len(found)}{after}") in state:
        found.append(state[name])
    return found


def _division(widths: list[int]) -> int:
    """The factor by which widths shrink from cluster to cluster: 2 for a single cluster, 1 if no factor fits."""
    for division in range(2, widths[0] + 1):
        if [widths[0] // division**cluster for cluster in range(len(widths))] == widths:
            return division
    return 1


def _same(state: Mapping[str, Tensor], name: str, other: str) -> bool:
    """Whether two tensors are equal; True also if either is missing, as the file then stores tied ones once."""
    return name not in state or other not in state or torch.equal(state[name], state[other])


def _shape(state: Mapping[str, Tensor], name: str, otherwise: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(state[name].shape) if name in state else otherwise
