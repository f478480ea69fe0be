"""Figures of a sweep under the delta rule: loss of quality against remaining work."""

import statistics
from collections.abc import Mapping, Sequence
from itertools import cycle, product

from deq_core.experiment.study import plotting
from deq_core.experiment.study.plotting import Axes, Figure
from deq_core.experiment.study.savings import Quality
from deq_core.experiment.tables import Row, Value, grouped, numbers, statistic

TICKS, LOST = (5, 10, 20, 50, 100), (-10, -1, 0, 1, 10, 100)
"""Ticks of the axes."""
GREYS = ("#000000", "#777777", "#AAAAAA", "#CCCCCC")
"""Colours of fewer steps, by solver."""


def tradeoff(rows: Sequence[Row], *, down: str, across: Sequence[str], quality: Quality, y: str) -> Figure:
    """Figure with a line through the thresholds of each variant, and a dotted line through fewer steps at threshold 0.

    All panels share both axes. Losses are relative to the solve with most steps by the same solver from the same
    initialisation.

    Args:
        rows: test rows, with work in per cent (`savings.work_shares`).
        down: column with one row of panels for each value.
        across: columns with one column of panels for each combination of values.
        quality: measure of quality.
        y: name of the loss, without unit.
    """
    cases = grouped(rows, (down, *across))
    places = dict.fromkeys(key[1:] for key in cases), dict.fromkeys(key[0] for key in cases)
    columns, lines = map(list, places)
    size = 2.6 * len(columns) + 0.5, 2.2 * len(lines) + 0.8
    figure, panels = plotting.figure(*size, rows=len(lines), columns=len(columns), share="all")
    variants = dict.fromkeys(row["variant"] for row in rows if row["threshold"] != 0)
    colours = dict(zip(variants, cycle(plotting.PALETTE)))
    for axes, (name, place) in zip(panels, product(lines, columns), strict=True):
        axes.set_title(", ".join(map(str, (name, *place))))
        draw(axes, cases.get((name, *place), []), quality, colours)
    panels[0].set_yscale("symlog", linthresh=1, linscale=0.7)
    panels[0].set_yticks(LOST, list(map(str, LOST)))
    panels[0].set_xscale("log")
    panels[0].set_xticks(TICKS, list(map(str, TICKS)))
    panels[0].minorticks_off()
    plotting.name_axes(figure, x="work left, % of the dense solve's MACs", y=f"{y}, {quality.unit}")
    plotting.legend(figure, columns=3)
    return figure


def draw(axes: Axes, rows: Sequence[Row], quality: Quality, colours: Mapping[Value, str]) -> None:
    """Draws the lines of one panel."""
    axes.axhline(0, color="#999999", linewidth=0.7)
    by_solver = grouped(rows, ("solver",))
    names = shortest([str(solver) for (solver,) in by_solver])
    for ((solver,), own), grey in zip(by_solver.items(), cycle(GREYS)):
        exact = [row for row in own if row["threshold"] == 0]
        last = max(numbers(exact, "max_steps"))
        reference = [row for row in exact if row["max_steps"] == last]
        lost: list[Row] = [{**row, "lost": quality.of(of_seed(reference, row), [row])} for row in own]
        fewer = [row for row in lost if row["threshold"] == 0]
        label = f"fewer steps, {names[str(solver)]}" if len(by_solver) > 1 else "fewer steps, threshold 0"
        quality_by_work(axes, fewer, by="max_steps", y="lost", label=label, line=":", color=grey)
        for (variant,), group in grouped([row for row in lost if row["threshold"] != 0], ("variant",)).items():
            label, color = f"{variant}, by threshold", colours[variant]
            quality_by_work(axes, group, by="threshold", y="lost", label=label, color=color)


def shortest(solvers: Sequence[str]) -> dict[str, str]:
    """Name of each solver: its class if classes are unique, otherwise the solver with its parameters."""
    kinds = [solver.partition("(")[0] for solver in solvers]
    return dict(zip(solvers, kinds if len(set(kinds)) == len(kinds) else solvers, strict=True))


def lines(
    axes: Axes, rows: Sequence[Row], quality: str, *, color: str, label: str = "", geometric: bool = False
) -> None:
    """Draws quality (not its loss) against work: a line through all thresholds, a dotted line through fewer steps.

    Args:
        axes: axes to draw on.
        rows: test rows.
        quality: column of the quality.
        color: colour of both lines.
        label: prefix of their labels.
        geometric: see `quality_by_work`.
    """
    exact = [row for row in rows if row["threshold"] == 0]
    above = [row for row in rows if row["threshold"] != 0]
    for own, by, line, said in ((exact, "max_steps", ":", "fewer steps"), (above, "threshold", "-", "by threshold")):
        look = {"label": f"{label}{said}", "line": line, "color": color, "geometric": geometric}
        quality_by_work(axes, own, by=by, y=quality, **look)


def of_seed(rows: Sequence[Row], like: Row) -> list[Row]:
    """Rows with the seed of `like`."""
    return [row for row in rows if row.get("seed") == like.get("seed")]


def quality_by_work(
    axes: Axes,
    rows: Sequence[Row],
    *,
    by: str,
    y: str,
    label: str,
    line: str = "-",
    color: str | None = None,
    geometric: bool = False,
) -> None:
    """Draws the mean work and the mean of column `y` for each value of column `by`, joined in the order of work.

    Args:
        axes: axes of a figure made by `plotting.figure`.
        rows: rows of all seeds. For several seeds, error bars are one sample standard deviation.
        by: column of the points.
        y: column.
        label: label in the legend.
        line: matplotlib's line style.
        color: colour of the line; by default the next one.
        geometric: whether to draw the geometric mean of `y`, with bars from minimum to maximum, for a logarithmic axis.
    """
    columns = [(numbers(group, "work"), numbers(group, y)) for group in grouped(rows, (by,)).values()]
    points = [(statistic(work), *(spread_of(values, geometric=geometric))) for work, values in columns]
    points.sort(key=lambda point: point[0].mean)
    axes.errorbar(
        [work.mean for work, *_ in points],
        [middle for _, middle, *_ in points],
        xerr=[work.std for work, *_ in points],  # NaN, the deviation of a single seed, draws no bar
        yerr=[[down for *_, down, _ in points], [up for *_, up in points]],
        label=label,
        linestyle=line,
        color=color,
        marker="o",
        markersize=3,
        linewidth=1,
        capsize=2,
    )


def spread_of(values: Sequence[float], *, geometric: bool) -> tuple[float, float, float]:
    """The mean, and the lengths of the error bar below and above it."""
    if geometric and len(values) > 1:
        middle = statistics.geometric_mean(values)
        return middle, middle - min(values), max(values) - middle
    found = statistic(values)
    return found.mean, found.std, found.std
