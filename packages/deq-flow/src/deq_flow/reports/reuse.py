"""The report of fixed-point reuse: what starting from the last frame's state saves, and what it costs."""

from collections.abc import Mapping, Sequence

from deq_core.experiment.study import plotting
from deq_core.experiment.study.measured import by_network, networks
from deq_core.experiment.study.plotting import Figure
from deq_core.experiment.study.report import Page, Report, Results
from deq_core.experiment.study.stage import Section
from deq_core.experiment.tables import Row, cell, grouped, markdown, numbers, over_seeds, statistic

Starts = Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]
"""{method: {budget: {start: {metric: mean over seeds, metric_std: standard deviation}}}}."""


def page(section: Section, results: Results) -> Page:
    """Means and standard deviations over seeds, of every method, budget and start."""
    measured = networks(section, methods="reuse.methods", seeds="seeds", shipped="reuse.shipped")
    found = {}
    for method, cases in by_network(measured).items():
        seeds = [results.metrics("reuse", case) for case in cases]
        found[method] = {
            budget: {start: over_seeds([of_seed[budget][start] for of_seed in seeds]) for start in starts}
            for budget, starts in seeds[0].items()
        }
    frames = results.rows("reuse", measured, "frames")
    return Page(
        title="Videos: starting from the last frame",
        metrics=found,
        parts=[table(found)],
        figures={"starts": figure(frames)} if frames else {},
        dpi=section.load(int, "plot.dpi"),
    )


def table(found: Starts) -> str:
    """A row a method, budget and start."""
    lines = []
    for method, budgets in found.items():
        for budget, starts in budgets.items():
            for start, values in starts.items():
                share = {name: 100 * value for name, value in values.items() if name.startswith("converged")}
                converged = cell(share, "converged", "{:.0f}") if share else "-"
                lines.append(
                    [
                        method,
                        budget,
                        start,
                        cell(values, "epe", "{:.2f}"),
                        cell(values, "iterations", "{:.1f}"),
                        converged,
                    ]
                )
    heads = ["method", "budget", "start", "EPE, px", "evaluations", "converged, % of pairs"]
    return markdown(heads, lines, names=3)


def figure(frames: Sequence[Row]) -> Figure:
    """EPE and evaluations of each frame of the videos, mean over videos and over seeds with a band of one deviation.

    Two rows of panels a method, a column a budget, a curve a start.
    """
    methods, cases = grouped(frames, ("network",)), grouped(frames, ("network", "budget", "start"))
    budgets = list(dict.fromkeys(budget for _, budget, _ in cases))
    quantities = {"epe": "EPE (px)", "iterations": "evaluations"}
    drawn, panels = plotting.figure(4.5 * len(budgets), 5.0 * len(methods), rows=2 * len(methods), columns=len(budgets))
    places = iter(panels)
    for (method,) in methods:
        for key, label in quantities.items():
            for budget in budgets:
                axes = next(places)
                for (network, own, start), rows in cases.items():
                    if (network, own) == (method, budget):
                        curves = [by_frame(of_seed, key) for of_seed in grouped(rows, ("seed",)).values()]
                        plotting.curve(axes, list(curves[0]), [list(of.values()) for of in curves], label=str(start))
                axes.set_title(f"{method}, {budget}")
                axes.set_xlabel("pair of the video")
                axes.set_ylabel(label)
                axes.legend()
    return drawn


def by_frame(rows: Sequence[Row], key: str) -> dict[float, float]:
    """{frame: mean of `key` over the videos}, in order of time."""
    values = grouped(rows, ("frame",))
    return {frame: statistic(numbers(values[(frame,)], key)).mean for (frame,) in sorted(values)}


REPORT = Report(name="flow.reuse_report", section="flow", page=page)
