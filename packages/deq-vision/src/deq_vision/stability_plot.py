"""Figures of the stability study, drawn from its tables alone."""

from pathlib import Path

from deq_core.experiment import plotting
from deq_core.experiment.files import output_directory
from deq_core.experiment.plotting import Figure
from deq_vision.stability_tables import CURVES, TITLES, StabilityTables


def figures(tables: StabilityTables, *, out: Path, dpi: int) -> list[Path]:
    """Draws a figure a split as SVG into `out`; returns their paths."""
    drawings = {f"{split}.svg": curves(tables, split) for split in tables.splits}
    with output_directory(out) as partial:
        for name, drawing in drawings.items():
            plotting.save(drawing, partial / name, dpi=dpi)
    return [out / name for name in drawings]


def curves(tables: StabilityTables, split: str) -> Figure:
    """Accuracy, loss and residual against evaluations at test time; a column a number of them in training."""
    columns = len(tables.steps)
    figure, panels = plotting.figure(2.9 * columns, 7.0, rows=len(CURVES), columns=columns)
    for place, axes in enumerate(panels):
        metric, steps = list(CURVES)[place // columns], tables.steps[place % columns]
        for method in tables.methods:
            plotting.curve(axes, tables.tested(), tables.curves(steps, method, split, metric), label=TITLES[method])
        axes.axvline(steps, color="grey", linestyle=":", linewidth=1)
        if metric == "residual":
            axes.set_yscale("log")
            axes.set_xlabel("evaluations of f at test time")
    for row, title in enumerate(CURVES.values()):
        shared = panels[row * columns : (row + 1) * columns]
        limits = [axes.get_ylim() for axes in shared]
        for axes in shared:
            axes.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
        shared[0].set_ylabel(title)
    for axes, steps in zip(panels, tables.steps, strict=False):
        axes.set_title(f"{steps} in training")
    panels[0].legend(loc="lower right")
    return figure
