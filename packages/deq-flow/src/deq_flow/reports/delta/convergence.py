"""Report of heterogeneous convergence: when the elements of flow networks' states settle."""

from collections.abc import Mapping, Sequence

import numpy as np
from einops import rearrange

from deq_core.experiment.study import plotting
from deq_core.experiment.study.measured import first_seeds, networks
from deq_core.experiment.study.plotting import Axes, Figure, Scale
from deq_core.experiment.study.report import Page, Report, Results
from deq_core.experiment.study.stage import Section
from deq_core.experiment.tables import Row, grouped, numbers
from deq_flow.reports.delta.settling import settling, settling_table
from deq_flow.reports.panels import LASTING, by_seed


def page(section: Section, results: Results) -> Page:
    """`settling` has percentiles of the steps to settle, and the unsettled share, by network, set and part."""
    measured = networks(section, methods="methods", seeds="method_seeds", shipped="shipped")
    distribution, histogram, steps, components = (
        results.rows("convergence", measured, name) for name in ("distribution", "histogram", "steps", "components")
    )
    arrays = {name: results.arrays("convergence", each, "maps") for name, each in first_seeds(measured).items()}
    found = settling("flow", distribution, ("network", "set", "part"))
    return Page(
        title="When the elements of a flow network's state settle",
        metrics={"settling": found},
        parts=[
            "Steps by which 5, 50 and 95 % of the elements have settled. An element has settled at a step if no later "
            "step changes it by more than a tolerance. Means ± standard deviation over seeds.",
            settling_table(found),
        ],
        figures={"curves": panels(histogram, steps, components, networks=list(arrays)), "maps": maps(arrays)},
        dpi=section.load(int, "dpi"),
    )


def panels(*tables: Sequence[Row], networks: Sequence[str]) -> Figure:
    """When elements settle, error, residual and principal components on the first set, with a row for each network.

    Panels of a column share axes.
    """
    columns = 4
    figure, axes = plotting.figure(12.0, 2.6 * len(networks) + 0.6, rows=len(networks), columns=columns, share="col")
    for number, network in enumerate(networks):
        name = next(row["set"] for row in tables[0] if row["network"] == network)
        own = [[row for row in rows if (row["network"], row["set"]) == (network, name)] for rows in tables]
        draw(axes[columns * number : columns * (number + 1)], *own)
        axes[columns * number].set_title(f"{network}, {name}")
    plotting.legend(figure)
    return figure


def draw(axes: Sequence[Axes], histogram: Sequence[Row], steps: Sequence[Row], components: Sequence[Row]) -> None:
    """Draws the four panels of one network and set."""
    settled, error, residual, variance = axes
    for (part, criterion), rows in grouped(histogram, ("part", "criterion")).items():
        seeds = [numbers(own, "share")[:-1] for own in by_seed(rows)]  # the last row has those that never settled
        reached = [np.cumsum(shares).tolist() for shares in seeds]
        label = f"{part}, {LASTING[str(criterion)]}"
        plotting.curve(settled, range(1, len(reached[0]) + 1), reached, label=label)
    settled.set_ylabel("share of elements settled")
    settled.set_ylim(0, 1.03)
    alone = {"label": "_", "color": "black"}
    plotting.curve_of(error, by_seed(steps), "step", "epe", **alone)
    error.set_ylabel("EPE (px)")
    plotting.curve_of(residual, by_seed(steps), "step", "residual", geometric=True, **alone)
    residual.set_yscale("log")
    residual.set_ylabel("relative residual")
    plotting.curve_of(variance, by_seed(components), "component", "cumulative", **alone)
    variance.set_xlabel("component")
    variance.set_ylabel("explained variance, together")
    for place in (settled, error, residual):
        place.set_xlabel("step")


def maps(arrays: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """Mean steps to settle at each cell of one pair, with a row for each network, all on one scale."""
    longest = max(float(own[f"{part}_lasting"].max()) for own in arrays.values() for part in ("hidden", "flow"))
    return plotting.image_grid(
        [
            [
                (network, rearrange(own["image"], "c h w -> h w c")),
                *((part, own[f"{part}_lasting"]) for part in ("hidden", "flow")),
            ]
            for network, own in arrays.items()
        ],
        width=9.0,
        scale=Scale("mean steps to settle for good", 1, longest),
    )


REPORT = Report(name="delta.convergence_report", section="delta", page=page)
