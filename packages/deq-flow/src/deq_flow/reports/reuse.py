"""Report of fixed-point reuse: evaluations saved, and error, when a frame starts from the state of the one before."""

from collections.abc import Mapping
from itertools import cycle

from deq_core.experiment.study import plotting
from deq_core.experiment.study.measured import by_network, networks
from deq_core.experiment.study.plotting import Figure
from deq_core.experiment.study.report import Page, Report, Results
from deq_core.experiment.study.stage import Section
from deq_core.experiment.tables import cell, markdown, over_seeds

Starts = Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]
"""{method: {budget: {start: {metric: mean over seeds, metric_std: standard deviation}}}}."""


def page(section: Section, results: Results) -> Page:
    """Means and standard deviations over seeds of every method, budget and start."""
    measured = networks(section, methods="reuse.methods", seeds="seeds", shipped="reuse.shipped")
    found = {}
    for method, cases in by_network(measured).items():
        seeds = [results.metrics("reuse", case) for case in cases]
        found[method] = {
            budget: {start: over_seeds([of_seed[budget][start] for of_seed in seeds]) for start in starts}
            for budget, starts in seeds[0].items()
        }
    return Page(
        title="Videos: starting from the previous frame",
        metrics=found,
        parts=[
            "Each frame of a long video is solved from zeros (`cold`), from the forward-warped flow of the previous "
            "frame (`warm`), or from its whole state (`reuse`). Means over all pairs ± standard deviation over seeds.",
            table(found),
        ],
        figures={"starts": figure(found)},
        dpi=section.load(int, "plot.dpi"),
    )


def table(found: Starts) -> str:
    """Table with one row for each method, budget and start."""
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


def figure(found: Starts) -> Figure:
    """EPE against evaluations, with a panel for each method and a line through the budgets of each start.

    Error bars are standard deviations over seeds.
    """
    drawn, panels = plotting.figure(4.5 * len(found), 3.6, columns=len(found), share="all")
    for axes, (method, budgets) in zip(panels, found.items(), strict=True):
        starts = list(next(iter(budgets.values())))
        for start, colour in zip(starts, cycle(plotting.PALETTE)):
            points = sorted(
                (of[start] for of in budgets.values()), key=lambda values: (values["iterations"], values["epe"])
            )
            x, y = ([values[name] for values in points] for name in ("iterations", "epe"))
            dx, dy = ([values.get(f"{name}_std", 0.0) for values in points] for name in ("iterations", "epe"))
            axes.errorbar(x, y, dy, dx, label=start, color=colour, marker="o", markersize=3, capsize=2)
        axes.set_title(method)
        axes.set_xscale("log")
        axes.set_yscale("log")
    plotting.name_axes(drawn, x="evaluations per pair", y="EPE (px)")
    plotting.legend(drawn)
    return drawn


REPORT = Report(name="flow.reuse_report", section="flow", page=page)
