"""Cells without images, such as that of the sine, under the delta rule: a row a threshold and number of steps."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from torch import Tensor, nn

from deq_core.experiment.config.delta import Rule
from deq_core.experiment.study.delta import EXACT, Counted, delta_cell, shares
from deq_core.experiment.tables import Row

Qualities = Mapping[str, float]
"""By split, "validation" and "test": of other points each."""


def rule_rows(
    cell: nn.Module,
    rules: Mapping[str, Rule],
    states: Callable[[Callable[..., Tensor]], Iterable[Tensor]],
    qualities: Callable[[Tensor], Qualities],
    quality: str,
    *,
    skip: Sequence[str] = (),
) -> list[Row]:
    """Quality and work at threshold 0 after every step, and by each threshold after the last.

    Args:
        cell: the map.
        rules: by name.
        states: the states (points, width) after each step with a cell.
        qualities: of a state.
        quality: the column of these.
        skip: layers that stay dense and are not counted.

    Returns:
        Rows as `deq_core.experiment.study.savings` takes them, twice a way to solve: for each split.
    """
    ways = [("exact", EXACT, 0.0)]
    ways += [(name, rule, size) for name, rule in rules.items() for size in rule.thresholds if size > 0]
    rows: list[Row] = []
    for name, rule, threshold in ways:
        delta, meter = delta_cell(cell, rule, threshold, skip=skip)
        counted = Counted(delta, meter)
        found = [qualities(state) for state in states(counted)]
        for step, of_splits in enumerate(found, start=1):
            if threshold == 0 or step == len(found):
                work = shares(counted.counts[:step])
                del work["macs_tiles"], work["tiles_skipped"]  # points have no neighbours
                key: Row = {"variant": name, "solver": "plain", "start": "cold", "threshold": threshold}
                rows += [
                    {**key, "max_steps": step, "split": split, quality: value, **work}
                    for split, value in of_splits.items()
                ]
    return rows
