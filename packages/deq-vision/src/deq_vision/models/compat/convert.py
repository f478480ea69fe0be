"""Loads official checkpoints of MDEQ (locuslab/deq), including the segmentation models that StreamDEQ uses."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from deq_core.experiment.checkpoints import state_dict as state_dicts
from deq_core.experiment.checkpoints.checkpoint import CheckpointError, filled, load_tensors, misfits, naming, outlined
from deq_core.experiment.checkpoints.state_dict import state_dict
from deq_vision.models.mdeq import MDEQ
from deq_vision.models.variants import VARIANTS

# Prefixes of parameter names in the release and here; # is a number. The first match applies, in either direction.
RENAMES = (
    ("downsample.0.", "stem.layers.0.conv."),
    ("downsample.1.", "stem.layers.0.norm."),
    ("downsample.3.", "stem.layers.1.conv."),
    ("downsample.4.", "stem.layers.1.norm."),
    ("downsample.DS#.", "stem.layers.#.conv."),
    ("downsample.DS#-BN.", "stem.layers.#.norm."),
    ("stage0.0.", "stem.projection.conv."),
    ("stage0.1.", "stem.projection.norm."),
    ("fullstage.branches.#.blocks.0.conv#.", "cell.branches.#.conv#."),
    ("fullstage.branches.#.blocks.0.gn#.", "cell.branches.#.norm#."),
    ("fullstage.fuse_layers.#.#.net.conv.", "cell.fuse.#.#.conv."),
    ("fullstage.fuse_layers.#.#.net.gnorm.", "cell.fuse.#.#.norm."),
    ("fullstage.fuse_layers.#.#.net.#.conv.", "cell.fuse.#.#.#.conv."),
    ("fullstage.fuse_layers.#.#.net.#.gnorm.", "cell.fuse.#.#.#.norm."),
    ("fullstage.post_fuse_layers.#.conv.", "cell.post.#.conv."),
    ("fullstage.post_fuse_layers.#.gnorm.", "cell.post.#.norm."),
    ("incre_modules.#.0.conv#.", "head.branches.#.conv#."),
    ("incre_modules.#.0.bn#.", "head.branches.#.norm#."),
    ("incre_modules.#.0.downsample.0.", "head.branches.#.shortcut.conv."),
    ("incre_modules.#.0.downsample.1.", "head.branches.#.shortcut.norm."),
    ("downsamp_modules.#.0.", "head.down.#.conv."),
    ("downsamp_modules.#.1.", "head.down.#.norm."),
    ("final_layer.0.", "head.final.conv."),
    ("final_layer.1.", "head.final.norm."),
    ("classifier.", "head.linear."),
    ("last_layer.0.", "head.mix.conv."),
    ("last_layer.1.", "head.mix.norm."),
    ("last_layer.3.", "head.classify."),
)
ENDS = (("weight_g", "parametrizations.weight.original0"), ("weight_v", "parametrizations.weight.original1"))
OUTPUT = re.compile(r"^head\.(linear|classify)\.weight$")


def load_released(path: Path | str, variant: str | None = None) -> MDEQ:
    """Loads the model in an official file, a bare state dict or a resumable checkpoint, in evaluation mode.

    Args:
        path: the file.
        variant: name in `VARIANTS`, needed where two have the same names and shapes; inferred otherwise.

    Raises:
        CheckpointError: the file holds anything else; the message lists missing, unexpected and misshapen tensors.
    """
    with naming(path):
        return from_released(load_tensors(Path(path)), variant)


def from_released(state: Mapping[str, Tensor], variant: str | None = None) -> MDEQ:
    """The model with the weights of an official state dict. See `load_released`."""
    state = renamed(state_dict(state))
    closest, fewest = "", None
    for name in [variant] if variant is not None else _likely(state):
        model = outlined(lambda name=name: _fresh(name, state), state)
        complaints = misfits(state, model.state_dict(), name=official)
        if not complaints:
            double = {value.dtype for value in state.values() if value.is_floating_point()} == {torch.float64}
            return filled(model, state, widened=double)
        if fewest is None or len(complaints) < len(fewest):
            closest, fewest = name, complaints
    listed = "\n  ".join(fewest or ())
    raise CheckpointError(f"not an official MDEQ checkpoint known here; against the closest, {closest}:\n  {listed}")


def renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` under the names of this package."""
    out = state_dicts.renamed(state, {name: _name(name, RENAMES, ENDS) for name in state})
    for name in [name for name in out if name.endswith(".running_mean")]:
        out.setdefault(name.replace("running_mean", "num_batches_tracked"), torch.tensor(0))
    return out


def official(name: str) -> str:
    """The release's name of the parameter or buffer `name`; the inverse of `renamed`."""
    return _name(name, [pair[::-1] for pair in RENAMES], [pair[::-1] for pair in ENDS])


def _name(name: str, beginnings: Iterable[Sequence[str]], ends: Iterable[Sequence[str]]) -> str:
    for old, new in ends:
        if name.endswith(f".{old}"):
            name = name.removesuffix(old) + new
    for old, new in beginnings:
        found = re.match(re.escape(old).replace(r"\#", r"(\d+)"), name)
        if found:
            numbers = iter(found.groups())
            return re.sub("#", lambda _, numbers=numbers: next(numbers), new) + name[found.end() :]
    return name


def _likely(state: Mapping[str, Tensor]) -> list[str]:
    """Names of the released variants whose branches are as wide as those of `state`; all of them if none matches.

    Raises:
        CheckpointError: `state` has no branch.
    """
    found = {name: re.match(r"cell\.branches\.(\d+)\.norm[23]\.weight$", name) for name in state}
    widths = {int(match[1]): state[name].shape[0] for name, match in found.items() if match and state[name].ndim}
    if not widths:
        raise CheckpointError(
            f"expected an official MDEQ checkpoint, with tensors such as "
            f"{official('cell.branches.0.norm3.weight')}, got a dictionary with {', '.join(list(state)[:5])}"
        )
    known = {name: variant for name, variant in VARIANTS.items() if variant.equilibrium.numerics == "released"}
    return [
        name
        for name, variant in known.items()
        if widths.items() <= dict(enumerate(variant.architecture.channels)).items()
    ] or list(known)


def _fresh(name: str, state: Mapping[str, Tensor]) -> MDEQ:
    """A newly built model of a variant, with as many classes as `state` has."""
    if name not in VARIANTS:
        raise CheckpointError(f"unknown variant {name!r}; known are {', '.join(VARIANTS)}")
    variant = VARIANTS[name]
    outputs = [value.shape[0] for key, value in state.items() if OUTPUT.match(key)]
    size = variant.architecture.with_classes(outputs[0]) if len(outputs) == 1 else variant.architecture
    return MDEQ(size, variant.equilibrium)
