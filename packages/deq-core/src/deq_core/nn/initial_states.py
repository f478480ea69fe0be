"""Random initial states in training, for solutions that do not depend on the path."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import repeat

import torch
from torch import Tensor
from torch.nn import functional

from .._solve.tree import Ravel, Tree, leaves_of, map_leaves, same_structure

Change = Callable[[Tree, torch.Generator | None], Tree]


@torch.no_grad()
def mix_initial_states(
    z: Tree,
    share: float,
    *,
    odds: tuple[float, float, float] = (0.35, 0.4, 0.25),
    move: Change | None = None,
    draw: Change | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Tree, Tensor]:
    """Replaces the states of a random `share` of the samples; returns z, detached, and which were replaced, (B,) bool.

    A network that is trained from such states, with the same targets, learns solutions that do not depend on the
    initial state (path independence: Anil et al., NeurIPS 2022, who mix zeros and normal numbers).

    Args:
        z: a tree of tensors (B, ...), such as the value of the first solve of the training step.
        share: probability that a sample is replaced, in [0, 1].
        odds: relative frequency of the replacements: another sample's state, the sample's own state moved, and a random
            state. Those that are not available (a batch of one, `move=None`) are left out.
        move: (z, generator) → all states moved, a tree like z: `MoveMaps`, or a function of your own.
        draw: (z, generator) → random states, a tree like z. None draws normal numbers with the root mean square of each
            part over the batch.
        generator: source of all draws, on any device.

    Raises:
        ValueError: an argument is out of range, or `move` or `draw` returns a tree unlike z.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be in [0, 1], got {share!r}")
    if len(odds) != 3 or not all(0 <= chance < math.inf for chance in odds):
        raise ValueError(f"odds must be three numbers, at least 0: another sample's, moved, random; got {odds!r}")
    layout = Ravel(z)
    z = map_leaves(Tensor.detach, z)
    batch = layout.batch
    touched = _uniform(batch, layout, generator) < share
    which, offset = _uniform(batch, layout, generator), _uniform(batch, layout, generator)
    other, moved, random = odds[0] * (batch > 1), odds[1] * (move is not None), odds[2]
    total = other + moved + random
    if total == 0:
        return z, torch.zeros_like(touched)
    if other:
        sample = torch.arange(batch, device=layout.device)
        others = (sample + 1 + (offset * (batch - 1)).long().clamp_max(batch - 2)) % batch
        z, old = _replaced(z, map_leaves(lambda leaf: leaf[others], z), touched & (which < other / total)), z
    else:
        old = z
    if move is not None and moved:
        chosen = touched & (which >= other / total) & (which < (other + moved) / total)
        z = _replaced(z, _like(old, move(old, generator), "move"), chosen)
    if random:
        drawn = _normal(old, generator) if draw is None else _like(old, draw(old, generator), "draw")
        z = _replaced(z, drawn, touched & (which >= (other + moved) / total))
    return z, touched


@dataclass(frozen=True)
class MoveMaps:
    """Moves maps (B, ..., H, W) as if from another frame: shifts and scales them, and adds smooth noise.

    Each sample is moved by random numbers of its own. All parts of a sample are shifted alike, so that parts of
    different resolutions stay aligned up to rounding. Shifts wrap around at the borders.

    Attributes:
        shift: maximum shift, as a share of height and width.
        scale: for each part, the maximum difference of its factor from 1; () scales none.
        noise: for each part, the maximum standard deviation of the noise, in the part's unit; () adds none.
        grid: rows and columns of the normal numbers from which the noise is interpolated.
    """

    shift: float = 0.25
    scale: tuple[float, ...] = ()
    noise: tuple[float, ...] = ()
    grid: tuple[int, int] = (3, 4)

    def __post_init__(self) -> None:
        if not all(0 <= number < math.inf for number in (self.shift, *self.scale, *self.noise)):
            raise ValueError(f"shift, scale and noise must be at least 0, got {self}")
        if min(self.grid) < 2:
            raise ValueError(f"grid must be at least 2 rows and 2 columns, got {self.grid!r}")

    def __call__(self, z: Tree, generator: torch.Generator | None = None) -> Tree:
        """The moved states, a tree like z.

        Raises:
            ValueError: a part has no height and width, or `scale` or `noise` is not one number for each part.
        """
        layout, leaves = Ravel(z), leaves_of(z)
        for name, leaf in zip(layout.names, leaves, strict=True):
            if leaf.dim() < 3:
                raise ValueError(f"MoveMaps moves maps (B, ..., H, W): {name} has shape {tuple(leaf.shape)}")
        for name, numbers in (("scale", self.scale), ("noise", self.noise)):
            if len(numbers) not in (0, len(leaves)):
                raise ValueError(f"{name} must be one number for each of {', '.join(layout.names)}, got {numbers!r}")
        shift = self.shift * (2 * _uniform(2 * layout.batch, layout, generator).reshape(2, -1) - 1)
        moved = []
        for leaf, scale, noise in zip(leaves, self.scale or repeat(0.0), self.noise or repeat(0.0)):  # noqa: B905  endless
            leaf = _rolled(leaf, shift)
            if scale:
                factor = 1 + scale * (2 * _uniform(layout.batch, layout, generator) - 1)
                leaf = leaf * _as(factor, leaf)
            if noise:
                deviation = noise * _uniform(layout.batch, layout, generator)
                leaf = leaf + _as(deviation, leaf) * self._smooth(leaf, generator)
            moved.append(leaf)
        rest = iter(moved)
        return map_leaves(lambda _: next(rest), z)

    def _smooth(self, leaf: Tensor, generator: torch.Generator | None) -> Tensor:
        """Normal numbers on the grid, interpolated to the shape of a leaf."""
        rows, columns = leaf.shape[-2:]
        channels = leaf.shape[1:-2].numel()
        coarse = _normal_numbers((len(leaf), channels, *self.grid), leaf.device, generator)
        fine = functional.interpolate(coarse, size=(rows, columns), mode="bilinear", align_corners=True)
        return fine.reshape(leaf.shape).to(leaf.dtype)


def _rolled(leaf: Tensor, shift: Tensor) -> Tensor:
    """A leaf (B, ..., H, W) with each sample rolled by its `shift` (2, B), as shares of height and width."""
    for axis, share in zip((-2, -1), shift, strict=True):
        size = leaf.shape[axis]
        cells = (share * size).round().long()
        index = (torch.arange(size, device=leaf.device) - cells[:, None]) % size
        shape = [len(leaf), *[1] * (leaf.dim() - 1)]
        shape[axis] = size
        leaf = leaf.gather(axis, index.reshape(shape).expand_as(leaf))
    return leaf


def _replaced(z: Tree, new: Tree, chosen: Tensor) -> Tree:
    """z with the `chosen` (B,) samples from `new`."""
    return map_leaves(lambda old, new: torch.where(_as(chosen, old), new, old), z, new)


def _like(z: Tree, new: Tree, name: str) -> Tree:
    """`new` in the dtypes of z, after a check of its structure and shapes."""
    if not same_structure(z, new) or any(a.shape != b.shape for a, b in zip(leaves_of(z), leaves_of(new), strict=True)):
        raise ValueError(f"{name} must return a tree of the structure and shapes it was given")
    return map_leaves(lambda old, new: new.to(old.dtype), z, new)


def _normal(z: Tree, generator: torch.Generator | None) -> Tree:
    """Normal numbers with the root mean square of each part."""

    def drawn(leaf: Tensor) -> Tensor:
        size = leaf.float().square().mean().sqrt()
        return (size * _normal_numbers(leaf.shape, leaf.device, generator)).to(leaf.dtype)

    return map_leaves(drawn, z)


def _normal_numbers(shape: tuple[int, ...], device: torch.device, generator: torch.Generator | None) -> Tensor:
    source = device if generator is None else generator.device
    return torch.randn(shape, device=source, generator=generator).to(device)


def _uniform(count: int, layout: Ravel, generator: torch.Generator | None) -> Tensor:
    """Uniform numbers in [0, 1), (count,), on the state's device."""
    source = layout.device if generator is None else generator.device
    return torch.rand(count, device=source, generator=generator).to(layout.device)


def _as(numbers: Tensor, leaf: Tensor) -> Tensor:
    """Numbers (B,) in a shape that broadcasts with a leaf (B, ...)."""
    numbers = numbers if numbers.dtype == torch.bool else numbers.to(leaf.dtype)
    return numbers.reshape(-1, *[1] * (leaf.dim() - 1))
