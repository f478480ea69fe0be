"""Figures of the delta rule on flow networks."""

from collections.abc import Mapping, Sequence
from typing import Any

from einops import rearrange

from deq_core.experiment.study import plotting
from deq_core.experiment.study.plotting import Axes, Figure, Scale
from deq_core.experiment.tables import Row, grouped, numbers
from deq_flow.reports.panels import by_seed

SHOWN = (2, 3, 5, 8)
"""Evaluations whose maps are shown, as far as a solve has them."""


def activity(evaluations: Sequence[Row], rules: Mapping[str, str]) -> Figure:
    """Skipped work at each evaluation by element, pixel and tile, with a row for each network, a column for each start.

    It is for the set with the most starts and the rule of each case in `rules`; dotted lines are threshold 0.
    """
    rows: dict[str, dict[tuple[Any, ...], list[Row]]] = {}
    for (network, name, start), own in grouped(evaluations, ("network", "set", "start")).items():
        rows.setdefault(f"{network}, {name}", {})[network, name, start] = own
    most = {name.split(", ")[0]: cases for name, cases in sorted(rows.items(), key=lambda item: len(item[1]))}
    columns = max(map(len, most.values()))
    size = 3.0 * columns + 0.6, 2.3 * len(most) + 0.7
    figure, panels = plotting.figure(*size, rows=len(most), columns=columns, share="all")
    for number, cases in enumerate(most.values()):
        for axes, (case, own) in zip(panels[number * columns :], cases.items(), strict=False):
            rule = rules.get(", ".join(case), "")
            axes.set_title(f"{', '.join(case)}: {rule or 'no variant within the loss'}", fontsize="small")
            above = [row for row in own if f"{row['variant']}, {row['threshold']:g}" == rule]
            like = above or own
            exact = {"threshold": 0, "solver": like[0]["solver"], "max_steps": max(numbers(like, "max_steps"))}
            draw_skipped(axes, above, "{}")
            draw_skipped(axes, [row for row in own if exact.items() <= row.items()], "{}, at threshold 0", ":")
    panels[0].set_ylim(-3, 103)
    panels[0].locator_params(axis="x", integer=True)
    plotting.name_axes(figure, x="evaluation of the solve", y="MACs skipped, %")
    plotting.legend(figure, columns=2)
    return figure


def draw_skipped(axes: Axes, rows: Sequence[Row], label: str, line: str = "-") -> None:
    """Draws the share of the dense work that each evaluation skips, by element, pixel and tile."""
    columns = {"element": "macs_sparse", "pixel": "macs_pixels", "tile": "macs_tiles"}
    for color, (part, column) in zip(plotting.PALETTE, columns.items(), strict=False):
        seeds = [
            [{**row, "skipped": 100 * (1 - numbers([row], column)[0] / numbers([row], "macs_dense")[0])} for row in own]
            for own in by_seed(rows)
        ]
        if seeds:
            look = {"color": color, "linestyle": line}
            plotting.curve_of(axes, seeds, "evaluation", "skipped", label=label.format(f"by {part}"), **look)


def still_changing(maps: Mapping[str, dict[str, Any]]) -> Figure:
    """Cells of the example that still change at each evaluation, with a row for each network and start.

    Reuse is left out if there is "stream", whose states move in the same way.
    """
    starts = {
        (network, name): cells
        for network, arrays in maps.items()
        for name, cells in arrays.items()
        if name != "image" and not (name == "reuse" and "stream" in arrays)
    }
    shortest = min(map(len, starts.values()))
    shown = [number for number in SHOWN if number <= shortest] or [shortest]
    grid = [
        [
            (f"{network}, {start}", rearrange(maps[network]["image"], "c h w -> h w c")),
            *((f"evaluation {number}", cells[number - 1]) for number in shown),
        ]
        for (network, start), cells in starts.items()
    ]
    return plotting.image_grid(grid, width=11.0, scale=Scale("share of channels that changed", 0, 1))
