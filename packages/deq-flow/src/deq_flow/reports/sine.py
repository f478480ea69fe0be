"""The report of the fitted sine."""

from collections.abc import Mapping, Sequence

import numpy as np

from deq_core.experiment.config import Name, Seed
from deq_core.experiment.study import plotting
from deq_core.experiment.study.plotting import Figure
from deq_core.experiment.study.report import Page, Report, Results
from deq_core.experiment.study.stage import Section
from deq_core.experiment.tables import Row, grouped
from deq_flow.reports import panels
from deq_flow.reports.settling import settling, settling_table
from deq_flow.reports.units import means, quality_table
from deq_flow.studies.sine import Fit, Sine


def page(section: Section, results: Results) -> Page:
    """Error and work by every rule and threshold, and under `settling` when units settled."""
    fits, seeds = section.load(dict[Name, Sine], "sine"), section.load(tuple[Seed, ...], "seeds")
    cases = [Fit(fit, seed) for fit in fits for seed in seeds]
    steps, thresholds, histogram, distribution = (
        results.rows("sine", cases, name) for name in ("steps", "thresholds", "histogram", "distribution")
    )
    found = settling("sine", distribution, ("fit",))
    states = {fit: results.arrays("sine", Fit(fit, seeds[0]), "states") for fit in fits}
    return Page(
        title="A sine fitted by a recurrent cell",
        metrics={**means("sine", steps, thresholds, "fit", "mse"), "settling": found},
        parts=[
            "Means ± standard deviation over seeds. MACs are those of the recurrent layer, in per cent of the dense "
            "solve's; the release's count leaves out the kernel area.",
            quality_table(steps, thresholds, "fit", "mse", title="mean squared error", form="{:.1e}"),
            "## When units settle",
            settling_table(found),
        ],
        figures={"fits": figure(states, steps, thresholds, histogram)},
    )


def figure(
    states: Mapping[str, Mapping[str, np.ndarray]],
    steps: Sequence[Row],
    thresholds: Sequence[Row],
    histogram: Sequence[Row],
) -> Figure:
    """A row a fit: y after some steps, error after each, when units settle, and error against work."""
    drawn, axes = plotting.figure(12.5, 3.2 * len(states), rows=len(states), columns=4)
    by_fit = [grouped(table, ("fit",)) for table in (steps, thresholds, histogram)]
    for number, (fit, arrays) in enumerate(states.items()):
        shape, error, settled, work = axes[4 * number : 4 * number + 4]
        own_steps, own_thresholds, own_histogram = (table[(fit,)] for table in by_fit)
        for step, values in zip(arrays["shown"], arrays["predictions"], strict=True):
            shape.plot(arrays["x"], values, label=f"step {step}", linewidth=1)
        shape.set_title(f"{fit}: y")
        shape.set_xlabel("x")
        shape.legend(fontsize="x-small")
        plotting.curve_of(error, panels.by_seed(own_steps), "step", "mse", label="dense")
        error.set_xlabel("steps")
        panels.units_settled(settled, own_histogram)
        panels.rules_and_fewer_steps(work, own_thresholds, own_steps, "mse")
        for place in (error, work):
            place.set_yscale("log")
            place.set_ylabel("mean squared error")
    return drawn


REPORT = Report(name="delta.sine_report", section="delta", page=page)
