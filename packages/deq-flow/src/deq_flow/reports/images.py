"""The report of images as implicit representations."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deq_core.experiment.config import Name, Seed
from deq_core.experiment.study import plotting
from deq_core.experiment.study.plotting import Figure
from deq_core.experiment.study.report import Page, Report, Results
from deq_core.experiment.study.stage import Section
from deq_core.experiment.tables import Row, grouped, markdown, numbers, spread
from deq_flow.reports import panels
from deq_flow.reports.savings import Savings, at_least, by_way, cheapest, longest, saved, savings_table
from deq_flow.reports.settling import settling, settling_table
from deq_flow.reports.units import means, quality_table
from deq_flow.studies.field import Representation
from deq_flow.studies.images import Represented

LOSSES = (0.1, 0.5)
"""Bounds that savings are given for: dB of the dense solve's PSNR."""


def page(section: Section, results: Results) -> Page:
    """Quality and work by every rule and threshold; under `savings` what was saved within which loss."""
    names, seeds = section.load(dict[Name, Representation], "representations"), section.load(tuple[Seed, ...], "seeds")
    cases = [Represented(name, seed) for name in names for seed in seeds]
    tables = {
        table: results.rows("inr", cases, table)
        for table in ("history", "steps", "thresholds", "histogram", "distribution")
    }
    steps, thresholds = tables["steps"], tables["thresholds"]
    found, settled = savings(steps, thresholds), settling("image", tables["distribution"], ("representation",))
    images = {name: results.arrays("inr", Represented(name, seeds[0]), "images") for name in names}
    return Page(
        title="An image as an implicit representation",
        metrics={
            **means("image", steps, thresholds, "representation", "psnr"),
            "savings": found,
            "settling": settled,
        },
        parts=[
            "Means ± standard deviation over seeds. MACs are those of the hidden layers, in per cent of the dense "
            "solve's; the release's count leaves out the kernel area.",
            quality_table(steps, thresholds, "representation", "psnr", title="PSNR, dB", form="{:.2f}"),
            "## Training",
            training_table(tables["history"]),
            "## Work saved within a loss",
            savings_table(found),
            "## When units settle",
            settling_table(settled),
        ],
        figures={"quality": quality(tables), "images": pictures(images)},
        dpi=section.load(int, "dpi"),
    )


def savings(steps: Sequence[Row], thresholds: Sequence[Row]) -> Savings:
    """What the rule and fewer dense steps save, for every representation and rule."""
    found: Savings = {}
    by_name = grouped(steps, ("representation",))
    for (name, rule), rows in grouped(thresholds, ("representation", "rule")).items():
        own = by_name[(name,)]
        count = max(numbers(own, "step"))
        dense = by_way([{**row, "work": 100 * numbers([row], "step")[0] / count} for row in own], "step")
        sparse = by_way([{**row, "work": 100 * (1 - numbers([row], "macs_saved")[0])} for row in rows], "threshold")
        reference = longest(dense, "psnr")
        found[f"image, {name}, {rule}"] = {
            f"{loss:g} dB": saved(
                *(
                    cheapest(ways, quality="psnr", work="work", accepted=at_least(reference, loss))
                    for ways in (sparse, dense)
                )
            )
            for loss in LOSSES
        }
    return found


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


def quality(tables: Mapping[str, Sequence[Row]]) -> Figure:
    """Quality in training, after each evaluation and against work, and when units settle; a row a representation."""
    by_name = {table: grouped(rows, ("representation",)) for table, rows in tables.items()}
    names = by_name["steps"]
    figure, axes = plotting.figure(12.5, 3.2 * len(names), rows=len(names), columns=4)
    for number, key in enumerate(names):
        training, evaluations, settled, work = axes[4 * number : 4 * number + 4]
        own = {table: rows[key] for table, rows in by_name.items()}
        draw_training(training, own["history"])
        training.set_title(f"{key[0]}: training")
        plotting.curve_of(evaluations, panels.by_seed(own["steps"]), "step", "psnr", label="dense")
        evaluations.set_xlabel("evaluations")
        panels.units_settled(settled, own["histogram"])
        panels.rules_and_fewer_steps(work, own["thresholds"], own["steps"], "psnr")
        for place in (training, evaluations, work):
            place.set_ylabel("PSNR (dB)")
    return figure


def draw_training(axes: Any, history: Sequence[Row]) -> None:
    """The quality of training against the work of its solves up to there, and what that is without the delta rule."""
    seeds = panels.by_seed(history)
    qualities = [numbers(own, "psnr") for own in seeds]
    for count, label in (("macs_sparse", "as trained"), ("macs_dense", "dense solves")):
        work = np.mean([np.cumsum(numbers(own, count)) for own in seeds], axis=0) / 1e9
        plotting.curve(axes, work.tolist(), qualities, label=label)
    axes.set_xlabel("MACs of training solves, 10⁹")
    axes.legend(fontsize="x-small")


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
