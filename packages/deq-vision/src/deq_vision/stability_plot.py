"""Figures of the stability study, drawn from its tables alone."""

from pathlib import Path

from deq_core.experiment.files import output_directory
from deq_core.experiment.study import plotting
from deq_core.experiment.study.plotting import Figure
from deq_vision.stability_tables import CURVES, TITLES, StabilityTables


def figures(tables: StabilityTables, *, out: Path, dpi: int) -> list[Path]:
    """Draws the figure as SVG into `out`; returns its path."""
    with output_directory(out) as partial:
        plotting.save(curves(tables), partial / "curves.svg", dpi=dpi)
    return [out / "curves.svg"]


def curves(tables: StabilityTables) -> Figure:
    """Accuracy, loss and residual of each split against evaluations at test time; a column an N."""
    rows = [(split, metric) for split in tables.splits for metric in CURVES]
    columns = len(tables.steps)
    figure, panels = plotting.figure(2.9 * columns, 2.3 * len(rows), rows=len(rows), columns=columns)
    for row, (split, metric) in enumerate(rows):
        shared = panels[row * columns : (row + 1) * columns]
        for axes, steps in zip(shared, tables.steps, strict=True):
            for method in tables.methods:
                plotting.curve(axes, tables.tested(), tables.curves(steps, method, split, metric), label=TITLES[method])
            axes.axvline(steps, color="grey", linestyle=":", linewidth=1)
            if metric == "residual":
                axes.set_yscale("log")
        limits = [axes.get_ylim() for axes in shared]
        for axes in shared:
            axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
        shared[0].set_ylabel(f"{CURVES[metric]}, {split}")
    for axes, steps in zip(panels[:columns], tables.steps, strict=True):
        axes.set_title(f"{steps} evaluations in training")
    for axes in panels[-columns:]:
        axes.set_xlabel("evaluations of f at test time")
    panels[0].legend(loc="lower right")
    return figure
