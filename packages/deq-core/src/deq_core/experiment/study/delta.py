"""Cells under the delta rule, and what each of their evaluations costs."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

import deq_core as deq
from deq_core.delta import DeltaMeter, to_delta
from deq_core.experiment.config.delta import Rule, Variant
from deq_core.experiment.config.layer import Solver
from deq_core.experiment.tables import Row, numbers

Cell = TypeVar("Cell", bound=nn.Module)
Start = TypeVar("Start", bound=str)

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

EXACT = Rule(thresholds=(0.0,))
"""The rule that changes no number."""


@dataclass(frozen=True)
class RunConfig(Generic[Start]):
    """One way to solve the samples of a study."""

    variant: str
    solver: Solver
    stop: deq.Stop
    start: Start
    rule: Rule | None = None
    threshold: float | None = None
    """Of `rule`; None evaluates densely."""

    @property
    def name(self) -> str:
        """What its numbers are called by."""
        how = "dense" if self.threshold is None else f"{self.threshold:g}"
        return f"{self.variant}.{self.start}.{how}.{self.stop.max_steps}"

    def columns(self) -> Row:
        """What tells its rows from others'."""
        return {
            "variant": self.variant,
            "solver": str(self.solver),
            "start": self.start,
            "threshold": self.threshold,
            "max_steps": self.stop.max_steps,
        }


def sweep_configs(
    variants: Mapping[str, Variant], steps: Sequence[int], starts: Sequence[Start]
) -> list[RunConfig[Start]]:
    """What is measured: of each solver and start, threshold 0 at some numbers of steps, then each variant's thresholds.

    At threshold 0 the rule returns what a dense solve does, and leaves out only what need not be computed: products of
    exact zeros and of inputs that stay as they are. So these runs are the peers with fewer steps, at the work that the
    rule is granted too.

    Args:
        variants: solvers and rules, by name.
        steps: lengths of the solves at threshold 0, the variants' own among them.
        starts: where solves begin.

    Raises:
        ValueError: a variant's number of steps is not among `steps`, or 0 is among its thresholds.
    """
    found: list[RunConfig[Start]] = []
    exact: set[tuple[Solver, Start]] = set()
    for name, variant in variants.items():
        if variant.stop.max_steps not in steps or 0 in variant.rule.thresholds:
            raise ValueError(
                f"{name}: expected thresholds above 0, got {list(variant.rule.thresholds)}, and max_steps among "
                f"`steps`, at which threshold 0 is measured, {list(steps)}, got {variant.stop.max_steps}"
            )
        for start in starts:
            if (variant.solver, start) not in exact:
                exact.add((variant.solver, start))
                stops = [deq.Stop(max_steps=count, tol=None) for count in steps]
                found += [RunConfig(name, variant.solver, stop, start, EXACT, 0.0) for stop in stops]
            stop, rule = variant.stop.build(), variant.rule
            found += [RunConfig(name, variant.solver, stop, start, rule, threshold) for threshold in rule.thresholds]
    return found


def delta_cell(cell: Cell, rule: Rule, threshold: float, **options: Any) -> tuple[Cell, DeltaMeter]:
    """`deq_core.delta.to_delta` as `rule` says; options are `skip` and `across_solves`."""
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
    its channels are, a tile of 8x8 where all of its pixels are. macs_* and release_* are numbers of operations: with
    macs_sparse left where single elements can be skipped, macs_pixels where whole pixels and macs_tiles where whole
    tiles can.
    """
    table = counts.reshape(-1, len(FIELDS))
    sums = dict(zip(FIELDS, table.sum(dim=0).tolist(), strict=True))
    columns = dict(zip(FIELDS, table.unbind(dim=1), strict=True))
    dense = columns["dense_macs"]
    pixels, tiles = columns["pixels"].clamp(min=1), columns["tiles"].clamp(min=1)
    return {
        "elements_skipped": 1 - sums["sent"] / sums["elements"],
        "pixels_skipped": 1 - sums["active"] / sums["pixels"],
        "tiles_skipped": 1 - sums["active_tiles"] / sums["tiles"],
        "macs_dense": sums["dense_macs"],
        "macs_sparse": sums["sparse_macs"],
        "macs_pixels": float((dense * columns["active"] / pixels).sum()),
        "macs_tiles": float((dense * columns["active_tiles"] / tiles).sum()),
        "macs_saved": 1 - sums["sparse_macs"] / sums["dense_macs"],
        "release_dense": sums["release_dense"],
        "release_sparse": sums["release_sparse"],
        "release_saved": 1 - sums["release_sparse"] / sums["release_dense"],
    }


def by_threshold(rows: Sequence[Row], quality: str) -> dict[str, float]:
    """{"variant.threshold.steps.quantity": value} of a quality and what was saved, of the rows of a sweep's test."""
    return {
        f"{row['variant']}.{row['threshold']:g}.{row['max_steps']}.{name}": numbers([row], name)[0]
        for row in rows
        if row["split"] == "test"
        for name in (quality, "macs_saved", "release_saved")
    }
