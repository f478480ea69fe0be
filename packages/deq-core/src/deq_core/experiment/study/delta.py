"""Cells under the delta rule, and the cost of each of their evaluations."""

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
"""Columns of counts: attributes of the count of one layer in `DeltaMeter`."""

EXACT = Rule(thresholds=(0.0,))
"""The rule at threshold 0, which changes no number."""


@dataclass(frozen=True)
class RunConfig(Generic[Start]):
    """One way to solve the samples of a study."""

    variant: str
    solver: Solver
    stop: deq.Stop
    start: Start
    rule: Rule | None = None
    threshold: float | None = None
    """Threshold of the rule; None evaluates densely."""

    @property
    def name(self) -> str:
        """Prefix of the names of its metrics."""
        how = "dense" if self.threshold is None else f"{self.threshold:g}"
        return f"{self.variant}.{self.start}.{how}.{self.stop.max_steps}"

    def columns(self) -> Row:
        """Columns that identify its rows."""
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
    """Runs of a sweep: for each solver and start, threshold 0 with each number of steps, and each variant's thresholds.

    At threshold 0 the rule gives the result of a dense solve, and skips only products with exact zeros and with
    unchanged inputs. These runs are the baseline of fewer steps, whose work is counted like that of the rule.

    Args:
        variants: solvers and rules by name.
        steps: numbers of steps at threshold 0, including those of the variants.
        starts: initialisations.

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
    """`deq_core.delta.to_delta` with the settings of `rule`; options are `skip` and `across_solves`."""
    return to_delta(
        cell,
        threshold,
        reference=rule.reference,
        relative=rule.relative,
        refresh_every=rule.refresh_every,
        **options,
    )


class Counted:
    """A map under the delta rule that records the cost of each evaluation by layer in `counts`."""

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
    """Counts since the meter was made or reset, (layers, FIELDS) float64."""
    return torch.tensor(
        [[float(getattr(layer, name)) for name in FIELDS] for layer in meter.layers.values()], dtype=torch.float64
    )


def add(total: Tensor | None, more: Tensor) -> Tensor:
    """Sum of two tables whose first dimension is the evaluation; the shorter one is padded with zeros."""
    if total is None:
        return more
    result = more.new_zeros(max(len(total), len(more)), *more.shape[1:])
    result[: len(total)] += total
    result[: len(more)] += more
    return result


def shares(counts: Tensor) -> dict[str, float]:
    """Columns of a table from counts (..., FIELDS), summed over all but the last dimension.

    elements_skipped, pixels_skipped and tiles_skipped are shares of the layers' inputs. A pixel is skipped if all of
    its channels are, a tile of 8x8 pixels if all of its pixels are. macs_* and release_* are numbers of operations.
    macs_sparse, macs_pixels and macs_tiles remain if single elements, whole pixels or whole tiles can be skipped.
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
    """{"variant.threshold.steps.quantity": value} for the quality and the savings in a sweep's test rows."""
    return {
        f"{row['variant']}.{row['threshold']:g}.{row['max_steps']}.{name}": numbers([row], name)[0]
        for row in rows
        if row["split"] == "test"
        for name in (quality, "macs_saved", "release_saved")
    }
