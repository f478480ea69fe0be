"""The report of heterogeneous convergence: when the elements of flow networks' states settle."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from einops import rearrange

from deq_core.experiment.study import plotting
from deq_core.experiment.study.plotting import Figure
from deq_core.experiment.study.report import Page, Report, Results
from deq_core.experiment.study.stage import Section
from deq_core.experiment.tables import Row, grouped, numbers
from deq_flow.reports.panels import by_seed
from deq_flow.reports.settling import settling, settling_table
from deq_flow.studies.measured import first_seeds, networks


def page(section: Section, results: Results) -> Page:
    """Under `settling`: percentiles of the steps, and the share that never did, of every network, set and part."""
    measured = networks(section, methods="methods", seeds="method_seeds", shipped="shipped")
    distribution, histogram, steps, components = (
        results.rows("convergence", measured, name) for name in ("distribution", "histogram", "steps", "components")
    )
    arrays = {name: results.arrays("convergence", each, "maps") for name, each in first_seeds(measured).items()}
    found = settling("flow", distribution, ("network", "set", "part"))
    return Page(
        title="When the elements of flow networks' states settle",
        metrics={"settling": found},
        parts=["Means ± standard deviation over seeds.", settling_table(found)],
        figures={"curves": panels(histogram, steps, components, arrays=arrays), "maps": maps(arrays)},
        dpi=section.load(int, "dpi"),
    )


def panels(*tables: Sequence[Row], arrays: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """When elements settle, error and residual, principal components and paths, of the first set; a row a network."""
    figure, axes = plotting.figure(12.5, 3.4 * len(arrays), rows=len(arrays), columns=4)
    for number, network in enumerate(arrays):
        name = next(row["set"] for row in tables[0] if row["network"] == network)
        own = [[row for row in rows if (row["network"], row["set"]) == (network, name)] for rows in tables]
        draw(axes[4 * number : 4 * number + 4], *own, paths=arrays[network]["paths"])
        axes[4 * number].set_title(f"{network}, {name}")
    return figure


def draw(
    axes: Sequence[Any], histogram: Sequence[Row], steps: Sequence[Row], components: Sequence[Row], *, paths: np.ndarray
) -> None:
    """The four panels of one network and set."""
    settled, errors, variance, plane = axes
    for (part, criterion), rows in grouped(histogram, ("part", "criterion")).items():
        seeds = [numbers(own, "share")[:-1] for own in by_seed(rows)]  # the last is of those that never settled
        reached = [np.cumsum(shares).tolist() for shares in seeds]
        plotting.curve(settled, range(1, len(reached[0]) + 1), reached, label=f"{part}, {criterion}")
    settled.set_ylabel("share of elements settled")
    settled.set_ylim(0, 1.03)
    for column in ("epe", "residual"):
        plotting.curve_of(errors, by_seed(steps), "step", column, label=column)
    errors.set_yscale("log")
    plotting.curve_of(variance, by_seed(components), "component", "cumulative", label="explained")
    variance.set_xlabel("component")
    variance.set_ylabel("explained variance, together")
    for path in paths:
        plane.plot(path[:, 0], path[:, 1], marker=".", linewidth=0.8)
    plane.set_xlabel("component 1")
    plane.set_ylabel("component 2")
    for place in (settled, errors):
        place.set_xlabel("step")
        place.legend(fontsize="x-small")


def maps(arrays: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Mean steps to settle at each cell of one pair, a row a network."""
    return plotting.image_grid(
        [
            [
                (network, rearrange(own["image"], "c h w -> h w c")),
                *((f"{part}: steps to settle", own[f"{part}_lasting"]) for part in ("hidden", "flow")),
            ]
            for network, own in arrays.items()
        ],
        width=9.0,
    )


REPORT = Report(name="delta.convergence_report", section="delta", page=page)
