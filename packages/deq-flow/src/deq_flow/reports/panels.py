"""Panels of figures: curves over steps, and quality against work with the spread over seeds in both directions."""

from collections.abc import Sequence
from typing import Any

from deq_core.experiment.study import plotting
from deq_core.experiment.tables import Row, grouped, numbers, statistic


def quality_by_work(
    axes: Any, rows: Sequence[Row], *, by: str, x: str, y: str, label: str, line: str = "-", color: str | None = None
) -> None:
    """Draws the means of columns `x` and `y` for each value of column `by`, joined in the order of `x`.

    Args:
        axes: of a figure of `deq_core.experiment.study.plotting`.
        rows: of all seeds; error bars are one sample standard deviation, where there is more than one seed.
        line: style of the line, as matplotlib writes it.
        color: of the line; the next of the house style by default.
    """
    points = sorted(
        ((statistic(numbers(group, x)), statistic(numbers(group, y))) for group in grouped(rows, (by,)).values()),
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


def by_seed(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows of each seed."""
    return list(grouped(rows, ("seed",)).values())


def units_settled(axes: Any, histogram: Sequence[Row]) -> None:
    """Units of a state that settle after each step, by both criteria."""
    for (criterion,), rows in grouped(histogram, ("criterion",)).items():
        plotting.curve_of(axes, by_seed(rows), "step", "units", label=str(criterion))
    axes.set_xlabel("step")
    axes.set_ylabel("units settled")
    axes.legend(fontsize="x-small")


def rules_and_fewer_steps(axes: Any, thresholds: Sequence[Row], steps: Sequence[Row], quality: str) -> None:
    """A quality against the work of every rule, and of dense solves with fewer steps, in per cent of the longest's."""
    for (rule,), rows in grouped(thresholds, ("rule",)).items():
        left = [{**row, "work": 100 * (1 - numbers([row], "macs_saved")[0])} for row in rows]
        quality_by_work(axes, left, by="threshold", x="work", y=quality, label=str(rule))
    fewer = [{**row, "work": 100 * step / len(own)} for own in by_seed(steps) for step, row in enumerate(own, start=1)]
    quality_by_work(axes, fewer, by="step", x="work", y=quality, label="dense, fewer steps", line=":")
    axes.set_xlabel("MACs, % of the dense solve's")
    axes.legend(fontsize="x-small")
