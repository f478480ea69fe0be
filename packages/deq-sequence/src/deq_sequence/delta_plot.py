"""The figure of the delta study, drawn from its tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from deq_core.experiment import plotting
from deq_core.experiment.plotting import Figure
from deq_core.experiment.results import Row, numbers, read_rows

MEGA = 1e6


def delta_figure(studies: Mapping[str, Sequence[Path]]) -> Figure:
    """Perplexity against the work of a token's solve, a column a method: a line a start through the thresholds of each
    variant, and one through dense solves that were stopped earlier.

    Args:
        studies: folders of `evaluate_delta` by method, one a seed.
    """
    figure, panels = plotting.figure(5.5 * len(studies), 3.8, columns=len(studies))
    for axes, (method, folders) in zip(panels, studies.items(), strict=True):
        runs = [read_rows(folder / "sweep.csv") for folder in folders]
        for label in dict.fromkeys(line(row) for row in runs[0]):
            chosen = [[row for row in rows if line(row) == label] for rows in runs]
            work = [sum(of_seeds) / MEGA / len(runs) for of_seeds in columns(chosen, "macs_sparse")]
            losses = [numbers(rows, "perplexity") for rows in chosen]
            plotting.curve(axes, work, losses, label=label)
        axes.set_title(method)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("million MACs of a token's solve")
        axes.set_ylabel("perplexity")
        axes.legend(fontsize="x-small")
    return figure


def line(row: Row) -> str:
    """The curve that a row is a point of."""
    if "threshold" in row:
        return f"{row['variant']}, {row['start']}"
    return f"{row['variant']}, {row['start']}: dense, stopped earlier"


def columns(runs: Sequence[Sequence[Row]], name: str) -> list[tuple[float, ...]]:
    """The values of all seeds, row by row."""
    return list(zip(*(numbers(rows, name) for rows in runs), strict=True))
