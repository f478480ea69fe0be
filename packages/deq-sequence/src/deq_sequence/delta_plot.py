"""The figure of the delta study, drawn from its tables."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deq_core.experiment.study import plotting
from deq_core.experiment.study.plotting import PALETTE, Figure
from deq_core.experiment.tables import Row, numbers, read_rows

MEGA = 1e6


def delta_figure(studies: Mapping[str, Sequence[Path]]) -> Figure:
    """Perplexity against the work of a token's solve, a row a method and a column a variant.

    A colour is a start: a line through the thresholds, and a dotted one through dense solves that were stopped earlier.
    What streams is drawn in the colour of `previous`, whose dense solves it is compared with.

    Args:
        studies: folders of `evaluate_delta` by method, one a seed.
    """
    runs = {method: [read_rows(folder / "sweep.csv") for folder in folders] for method, folders in studies.items()}
    variants = list(dict.fromkeys(row["variant"] for of_seeds in runs.values() for row in of_seeds[0]))
    figure, panels = plotting.figure(4.5 * len(variants), 3.2 * len(runs), rows=len(runs), columns=len(variants))
    places = [(method, variant) for method in runs for variant in variants]
    for axes, (method, variant) in zip(panels, places, strict=True):
        of_variant = [[row for row in rows if row["variant"] == variant] for rows in runs[method]]
        for label in dict.fromkeys(line(row) for row in of_variant[0]):
            chosen = [[row for row in rows if line(row) == label] for rows in of_variant]
            work = [sum(of_seeds) / MEGA / len(chosen) for of_seeds in columns(chosen, "macs_sparse")]
            losses = [numbers(rows, "perplexity") for rows in chosen]
            plotting.curve(axes, work, losses, label=label, marker=".", **look(chosen[0][0]))
        axes.set_title(f"{method}, {variant}")
        axes.set_xlabel("million MACs of a token's solve")
        axes.set_ylabel("perplexity")
        axes.legend(fontsize="x-small")
    return figure


def line(row: Row) -> str:
    """The curve of its panel that a row is a point of."""
    return f"{row['start']}" if "threshold" in row else f"{row['start']}: dense, stopped earlier"


def look(row: Row) -> dict[str, Any]:
    """Of its line."""
    start = "previous" if row["start"] == "stream" else row["start"]
    known = ("cold", "token", "previous")
    return {"color": PALETTE[known.index(str(start))], "linestyle": "-" if "threshold" in row else ":"}


def columns(runs: Sequence[Sequence[Row]], name: str) -> list[tuple[float, ...]]:
    """The values of all seeds, row by row."""
    return list(zip(*(numbers(rows, name) for rows in runs), strict=True))
