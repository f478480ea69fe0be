"""Quality and work of small cells, such as that of the sine, with the delta rule, by threshold and number of steps."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from torch import Tensor, nn

from deq_core.experiment.config.delta import Rule
from deq_core.experiment.study.delta import EXACT, Counted, delta_cell, shares
from deq_core.experiment.tables import Row

Qualities = Mapping[str, float]
"""Quality by split, "validation" and "test", which have different points."""


def rule_rows(
    cell: nn.Module,
    rules: Mapping[str, Rule],
    states: Callable[[Callable[..., Tensor]], Iterable[Tensor]],
    qualities: Callable[[Tensor], Qualities],
    quality: str,
    *,
    skip: Sequence[str] = (),
) -> list[Row]:
    """Quality and work at threshold 0 after every step, and for each threshold after the last.

    Args:
        cell: map of the equilibrium.
        rules: rules by name.
        states: function that gives the states (points, width) after each step with a cell.
        qualities: function that gives the quality of a state.
        quality: name of the column of quality.
        skip: layers that stay dense and are not counted.

    Returns:
        Rows for `deq_core.experiment.study.savings`, one for each solve and split.
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
