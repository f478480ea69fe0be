"""Quality against work: points with the spread over seeds in both directions."""

from collections.abc import Sequence
from typing import Any

from deq_core.experiment.tables import Row, numbers, statistic


def tradeoff(
    axes: Any, rows: Sequence[Row], *, by: str, x: str, y: str, label: str, line: str = "-", color: str | None = None
) -> None:
    """Draws the means of columns `x` and `y` for each value of column `by`, joined in the order of `x`.

    Args:
        axes: of a figure of `deq_core.experiment.study.plotting`.
        rows: of all seeds; error bars are one sample standard deviation, where there is more than one seed.
        line: style of the line, as matplotlib writes it.
        color: of the line; the next of the house style by default.
    """
    groups: dict[Any, list[Row]] = {}
    for row in rows:
        groups.setdefault(row[by], []).append(row)
    points = sorted(
        ((statistic(numbers(group, x)), statistic(numbers(group, y))) for group in groups.values()),
        key=lambda point: point[0].mean,
    )
    axes.errorbar(
        [work.mean for work, _ in points],
        [quality.mean for _, quality in points],
        xerr=[work.std for work, _ in points],  # no bar is drawn for NaN, the spread of a single seed
        yerr=[quality.std for _, quality in points],
        label=label,
        linestyle=line,
        color=color,
        marker="o",
        markersize=3,
        linewidth=1,
        capsize=2,
    )


def mean_by(rows: Sequence[Row], by: str, value: str) -> tuple[list[float], list[list[float]]]:
    """Values of column `by`, and column `value` at each of them for every seed: what `plotting.curve` takes."""
    runs = dict.fromkeys(row["run"] for row in rows)
    per_run = [[row for row in rows if row["run"] == run] for run in runs]
    return numbers(per_run[0], by), [numbers(own, value) for own in per_run]
