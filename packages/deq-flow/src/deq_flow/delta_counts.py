"""What the delta rule computed and which elements of a state still change, evaluation by evaluation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deq_core import DeltaMeter, to_delta
from deq_flow.delta_params import Rule

Cell = TypeVar("Cell", bound=nn.Module)

FIELDS = (
    "elements",
    "sent",
    "pixels",
    "active",
    "tiles",
    "active_tiles",
    "dense_macs",
    "sparse_macs",
    "release_dense",
    "release_sparse",
)
"""The columns of counts: attributes of `deq_core`'s count of one layer."""
CHANGES = ("elements", "elements_changed", "pixels", "pixels_changed", "tiles", "tiles_changed")
"""The columns of changes."""
TILE = 8  # cells; the side of the blocks that a GPU kernel would skip


def delta_cell(cell: Cell, rule: Rule, threshold: float, **options: Any) -> tuple[Cell, DeltaMeter]:
    """`deq_core.to_delta` as `rule` says; options are `skip` and `across_solves`."""
    return to_delta(
        cell,
        threshold,
        reference=rule.reference,
        relative=rule.relative,
        refresh_every=rule.refresh_every,
        **options,
    )


class Counted:
    """A map under the delta rule; `counts` has what each of its evaluations cost, layer by layer."""

    def __init__(self, f: Callable[..., Any], meter: DeltaMeter) -> None:
        self._f, self._meter = f, meter
        self._before = totals(meter)
        self._counts: list[Tensor] = []

    def __call__(self, *state: Tensor) -> Any:
        image = self._f(*state)
        after = totals(self._meter)
        self._counts.append(after - self._before)
        self._before = after
        return image

    @property
    def counts(self) -> Tensor:
        """(evaluations, layers, FIELDS), float64."""
        return torch.stack(self._counts)


def totals(meter: DeltaMeter) -> Tensor:
    """(layers, FIELDS) float64: everything counted since the meter was made or reset."""
    return torch.tensor(
        [[float(getattr(layer, name)) for name in FIELDS] for layer in meter.layers.values()], dtype=torch.float64
    )


@dataclass
class Changes:
    """Where a state (B, C, h, w) changes by more than a threshold from one evaluation to the next.

    An evaluation without a previous one counts as changed everywhere.
    """

    threshold: float
    previous: Tensor | None = None
    """The state of the last evaluation seen, or of the last solve where its memories are kept."""
    maps: list[Tensor] = field(default_factory=list)
    """(B, h, w) an evaluation: the share of channels that changed."""
    sums: list[Tensor] = field(default_factory=list)
    """(CHANGES,) float64 an evaluation: elements, pixels and tiles, and how many of them changed."""

    def see(self, state: Tensor) -> None:
        """Takes the next evaluation's state."""
        before = self.previous
        if before is None or before.shape != state.shape:
            changed = torch.ones_like(state, dtype=torch.bool)
        else:
            changed = (state - before).abs() > self.threshold
        self.previous = state
        share = changed.float().mean(dim=1)
        pixels = changed.any(dim=1)
        tiles = F.max_pool2d(pixels[:, None].float(), TILE, ceil_mode=True)
        self.maps.append(share)
        numbers = [changed.numel(), changed.sum(), pixels.numel(), pixels.sum(), tiles.numel(), tiles.sum()]
        self.sums.append(torch.tensor([float(number) for number in numbers], dtype=torch.float64))


def add(total: Tensor | None, more: Tensor) -> Tensor:
    """The sum of two tables whose first dimension is the evaluation, the shorter one continued by zeros."""
    if total is None:
        return more
    result = more.new_zeros(max(len(total), len(more)), *more.shape[1:])
    result[: len(total)] += total
    result[: len(more)] += more
    return result


def shares(counts: Tensor) -> dict[str, float]:
    """Columns of a table from counts (..., FIELDS), summed over all but the last dimension.

    elements_skipped, pixels_skipped and tiles_skipped are shares of the layers' inputs; a pixel is skipped where all of
    its channels are, a tile of 8x8 where all of its pixels are. macs_* and release_* are numbers of operations.
    """
    sums = dict(zip(FIELDS, counts.reshape(-1, len(FIELDS)).sum(dim=0).tolist(), strict=True))
    return {
        "elements_skipped": 1 - sums["sent"] / sums["elements"],
        "pixels_skipped": 1 - sums["active"] / sums["pixels"],
        "tiles_skipped": 1 - sums["active_tiles"] / sums["tiles"],
        "macs_dense": sums["dense_macs"],
        "macs_sparse": sums["sparse_macs"],
        "macs_saved": 1 - sums["sparse_macs"] / sums["dense_macs"],
        "release_dense": sums["release_dense"],
        "release_sparse": sums["release_sparse"],
        "release_saved": 1 - sums["release_sparse"] / sums["release_dense"],
    }


def still(changes: Tensor) -> dict[str, float]:
    """Shares of elements, pixels and 8x8 tiles of the state that changed, from one row (CHANGES,)."""
    sums: Mapping[str, float] = dict(zip(CHANGES, changes.tolist(), strict=True))
    return {f"state_{name}": sums[f"{name}_changed"] / sums[name] for name in ("elements", "pixels", "tiles")}
