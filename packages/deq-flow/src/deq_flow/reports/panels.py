"""Panels of figures over steps."""

from collections.abc import Sequence

from deq_core.experiment.study import plotting
from deq_core.experiment.study.plotting import Axes
from deq_core.experiment.tables import Row, grouped

LASTING = {"first": "for the first time", "lasting": "for good"}
"""Labels of the criteria of settling."""


def by_seed(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows of each seed."""
    return list(grouped(rows, ("seed",)).values())


def settled(histogram: Sequence[Row]) -> list[list[Row]]:
    """The rows of each seed without the last, which has the units that never settled."""
    return [rows[:-1] for rows in by_seed(histogram)]


def units_settled(axes: Axes, histogram: Sequence[Row]) -> None:
    """Draws the number of units of a state that settle after each step, by both criteria."""
    for ((criterion,), rows), color in zip(
        grouped(histogram, ("criterion",)).items(), plotting.PALETTE[2:], strict=False
    ):
        plotting.curve_of(axes, settled(rows), "step", "units", label=f"settled {LASTING[str(criterion)]}", color=color)
    axes.set_xlabel("step")
    axes.set_ylabel("units settled")
