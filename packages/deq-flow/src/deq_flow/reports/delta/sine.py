"""Report of the fitted sine."""

from collections.abc import Mapping, Sequence

import numpy as np

from deq_core.experiment.config import Name, Seed
from deq_core.experiment.study import plotting
from deq_core.experiment.study.plotting import Figure
from deq_core.experiment.study.report import Page, Report, Results
from deq_core.experiment.study.savings import error, savings_table, work_shares
from deq_core.experiment.study.stage import Section
from deq_core.experiment.study.tradeoff import lines
from deq_core.experiment.tables import Row, grouped
from deq_flow.reports import panels
from deq_flow.reports.delta import units
from deq_flow.reports.delta.settling import settling, settling_table
from deq_flow.studies.delta.sine import Fit, Sine

LOSSES = (5, 20)
"""Bounds of the loss for savings, per cent of the mean squared error of the solve with most steps."""
QUALITY = error("mse")


def page(section: Section, results: Results) -> Page:
    """Error and work for each rule and threshold, savings, and in `settling` the steps to settle."""
    fits, seeds = section.load(dict[Name, Sine], "sine"), section.load(tuple[Seed, ...], "seeds")
    cases = [Fit(fit, seed) for fit in fits for seed in seeds]
    table, histogram, distribution = (
        results.rows("sine", cases, name) for name in ("sweep", "histogram", "distribution")
    )
    rows = work_shares(table, ("fit", "split"))
    found = settling("sine", distribution, ("fit",))
    states = {fit: results.arrays("sine", Fit(fit, seeds[0]), "states") for fit in fits}
    return Page(
        title="A recurrent cell fitted to a sine",
        metrics={**units.means("sine", rows, "fit", "mse"), "settling": found},
        parts=[
            "Means ± standard deviation over seeds. Work is the number of multiply-accumulates (MACs) of the recurrent "
            f"layer, in per cent of the longest dense solve. The release counts differently. {units.HOW}",
            "## Work saved within an allowed loss",
            savings_table(units.savings("sine", rows, "fit", QUALITY, LOSSES), parts=tuple(units.PARTS)),
            "## Cases",
            units.quality_table(rows, "fit", "mse", title="mean squared error", form="{:.1e}"),
            "## When units settle",
            settling_table(found),
        ],
        figures={"fits": figure(states, rows, histogram)},
    )


def figure(states: Mapping[str, Mapping[str, np.ndarray]], rows: Sequence[Row], histogram: Sequence[Row]) -> Figure:
    """y after some steps, when units settle, and error against work, with a row for each fit and shared axes."""
    drawn, axes = plotting.figure(10.5, 2.6 * len(states) + 0.7, rows=len(states), columns=3, share="col")
    by_fit = [grouped(table, ("fit",)) for table in (rows, histogram)]
    for number, (fit, arrays) in enumerate(states.items()):
        shape, settled, work = axes[3 * number : 3 * number + 3]
        own_rows, own_histogram = (table[(fit,)] for table in by_fit)
        shades = plotting.shades(len(arrays["shown"]))
        for step, values, shade in zip(arrays["shown"], arrays["predictions"], shades, strict=True):
            shape.plot(arrays["x"], values, label=f"y after step {step}", color=shade, linewidth=1)
        shape.set_title(fit)
        shape.set_xlabel("x")
        shape.set_ylabel("y")
        panels.units_settled(settled, own_histogram)
        test = [row for row in own_rows if row["split"] == "test"]
        lines(work, test, "mse", color=plotting.PALETTE[0], geometric=True)
        work.set_yscale("log")
        work.set_xlabel("work left, % of the dense solve's MACs")
        work.set_ylabel("mean squared error")
    plotting.legend(drawn, columns=5)
    return drawn


REPORT = Report(name="delta.sine_report", section="delta", page=page)
