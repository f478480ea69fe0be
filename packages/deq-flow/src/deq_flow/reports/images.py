"""The report of images as implicit representations."""

from collections.abc import Mapping, Sequence

import numpy as np

from deq_core.experiment.config import Name, Seed
from deq_core.experiment.study import plotting
from deq_core.experiment.study.plotting import Axes, Figure
from deq_core.experiment.study.report import Page, Report, Results
from deq_core.experiment.study.savings import decibels, savings_table, work_shares
from deq_core.experiment.study.stage import Section
from deq_core.experiment.study.tradeoff import lines
from deq_core.experiment.tables import Row, grouped, markdown, numbers, spread
from deq_flow.reports import panels, units
from deq_flow.reports.settling import settling, settling_table
from deq_flow.studies.field import Representation
from deq_flow.studies.images import Represented

LOSSES = (0.1, 0.5)
"""Bounds that savings are given for, dB of the PSNR of the solve of most steps."""
QUALITY = decibels("psnr")


def page(section: Section, results: Results) -> Page:
    """Quality and work by every rule and threshold; under `savings` what was saved within which loss."""
    names, seeds = section.load(dict[Name, Representation], "representations"), section.load(tuple[Seed, ...], "seeds")
    cases = [Represented(name, seed) for name in names for seed in seeds]
    history, table, histogram, distribution = (
        results.rows("inr", cases, name) for name in ("history", "sweep", "histogram", "distribution")
    )
    rows = work_shares(table, ("representation", "split"))
    found = units.savings("image", rows, "representation", QUALITY, LOSSES)
    settled = settling("image", distribution, ("representation",))
    images = {name: results.arrays("inr", Represented(name, seeds[0]), "images") for name in names}
    return Page(
        title="An image as an implicit representation",
        metrics={
            **units.means("image", rows, "representation", "psnr"),
            "savings": found,
            "settling": settled,
        },
        parts=[
            "Means ± standard deviation over seeds. Work is the multiply-accumulates of the hidden layers, in per cent "
            f"of the dense solve of most steps; the release's count is another. {units.HOW}",
            "## Work saved within a loss",
            savings_table(found, parts=tuple(units.PARTS)),
            "## Cases",
            units.quality_table(rows, "representation", "psnr", title="PSNR, dB", form="{:.2f}"),
            "## Training",
            training_table(history),
            "## When units settle",
            settling_table(settled),
        ],
        figures={"quality": quality(history, rows, histogram), "images": pictures(images)},
        dpi=section.load(int, "dpi"),
    )


def training_table(history: Sequence[Row]) -> str:
    """A row a representation: the quality at the end of training, and the work of its solves."""
    lines = []
    for (name,), rows in grouped(history, ("representation",)).items():
        totals: list[Row] = []
        for own in panels.by_seed(rows):
            sparse, dense = (sum(numbers(own, f"macs_{kind}")) for kind in ("sparse", "dense"))
            totals.append({"psnr": numbers(own, "psnr")[-1], "work": sparse / 1e9, "share": 100 * sparse / dense})
        forms = {"psnr": "{:.2f}", "work": "{:.1f}", "share": "{:.1f}"}
        lines.append([str(name), *(spread(totals, column, form) for column, form in forms.items())])
    return markdown(["training", "PSNR, dB", "MACs of its solves, 10⁹", "of dense solves, %"], lines)


def quality(history: Sequence[Row], rows: Sequence[Row], histogram: Sequence[Row]) -> Figure:
    """Quality in training, when units settle, and quality against work; panels of a column share axes."""
    training, settled, solved = (grouped(table, ("representation",)) for table in (history, histogram, rows))
    drawn, axes = plotting.figure(10.5, 2.4 * len(solved) + 0.7, rows=len(solved), columns=3, share="col")
    for number, key in enumerate(solved):
        first, second, third = axes[3 * number : 3 * number + 3]
        draw_training(first, training[key])
        first.set_title(key[0])
        panels.units_settled(second, settled[key])
        lines(third, [row for row in solved[key] if row["split"] == "test"], "psnr")
        third.set_xlabel("work left, % of the dense solve's MACs")
        for place in (first, third):
            place.set_ylabel("PSNR (dB)")
    plotting.legend(drawn, columns=4)
    return drawn


def draw_training(axes: Axes, history: Sequence[Row]) -> None:
    """The quality of training against the work of its solves up to there, and what that is without the delta rule."""
    seeds = panels.by_seed(history)
    qualities = [numbers(own, "psnr") for own in seeds]
    for count, label, color in (
        ("macs_sparse", "training", plotting.PALETTE[1]),
        ("macs_dense", "training, by dense solves", "#999999"),
    ):
        work = np.mean([np.cumsum(numbers(own, count)) for own in seeds], axis=0) / 1e9
        plotting.curve(axes, work.tolist(), qualities, label=label, color=color)
    axes.set_xlabel("MACs of training solves, 10⁹")


def pictures(images: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """The image, its representations, and what the delta rule leaves of them; a row a representation."""
    grid = []
    for name, arrays in images.items():
        titles = {"target": "target", "dense": f"{name}: dense", **{rule: rule for rule in list(arrays)[2:6]}}
        grid.append([(title, colours(arrays[key])) for key, title in titles.items()])
    return plotting.image_grid(grid, width=11.0)


def colours(values: np.ndarray) -> np.ndarray:
    """Values (h, w, channels) in [-1, 1] as uint8 (h, w, 3)."""
    image = np.rint(255 * (np.clip(values, -1, 1) + 1) / 2).astype(np.uint8)
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image


REPORT = Report(name="delta.inr_report", section="delta", page=page)
