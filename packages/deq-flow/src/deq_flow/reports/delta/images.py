"""Report of implicit neural representations of an image."""

from collections.abc import Mapping, Sequence

import numpy as np

from deq_core.experiment.config import Name, Seed
from deq_core.experiment.study import plotting
from deq_core.experiment.study.plotting import Axes, Figure, Scale
from deq_core.experiment.study.report import Page, Report, Results
from deq_core.experiment.study.savings import decibels, savings_table, work_shares
from deq_core.experiment.study.stage import Section
from deq_core.experiment.study.tradeoff import lines
from deq_core.experiment.tables import Row, grouped, markdown, numbers, spread
from deq_flow.reports import panels
from deq_flow.reports.delta import units
from deq_flow.reports.delta.settling import settling, settling_table
from deq_flow.studies.delta.field import Representation
from deq_flow.studies.delta.images import Represented, work_so_far

LOSSES = (0.1, 0.5)
"""Bounds of the loss for savings, dB below the PSNR of the solve with most steps."""
QUALITY = decibels("psnr")


def page(section: Section, results: Results) -> Page:
    """Quality and work for each rule and threshold, and in `savings` the work saved within each bound."""
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
        title="An image as an implicit neural representation",
        metrics={
            **units.means("image", rows, "representation", "psnr"),
            "savings": found,
            "settling": settled,
        },
        parts=[
            "Means ± standard deviation over seeds. Work is the number of multiply-accumulates (MACs) of the hidden "
            f"layers, in per cent of the longest dense solve. The release counts differently. {units.HOW}",
            "## Work saved within an allowed loss",
            savings_table(found, parts=tuple(units.PARTS)),
            "## Cases",
            units.quality_table(rows, "representation", "psnr", title="PSNR, dB", form="{:.2f}"),
            "## Training",
            training_table(history),
            "## When units settle",
            settling_table(settled),
        ],
        figures={"quality": quality(history, rows, histogram, names), "images": pictures(images)},
        dpi=section.load(int, "dpi"),
    )


def training_table(history: Sequence[Row]) -> str:
    """Table of the quality at the end of training, and the work of its solves, by representation."""
    lines = []
    for (name,), rows in grouped(history, ("representation",)).items():
        totals: list[Row] = []
        for own in panels.by_seed(rows):
            sparse, dense = (work_so_far(own, f"macs_{kind}")[-1] for kind in ("sparse", "dense"))
            totals.append({"psnr": numbers(own, "psnr")[-1], "work": sparse / 1e9, "share": 100 * sparse / dense})
        forms = {"psnr": "{:.2f}", "work": "{:.1f}", "share": "{:.1f}"}
        lines.append([str(name), *(spread(totals, column, form) for column, form in forms.items())])
    return markdown(["representation", "PSNR, dB", "MACs of training solves, 10⁹", "% of dense solves"], lines)


def quality(
    history: Sequence[Row],
    rows: Sequence[Row],
    histogram: Sequence[Row],
    representations: Mapping[str, Representation],
) -> Figure:
    """Quality in training, when units settle, and quality against work; panels of a column share axes.

    There is a row for each kind of representation, and a colour each for training densely and with the rule.
    """
    training, settled, solved = (grouped(table, ("representation",)) for table in (history, histogram, rows))
    kinds = list(dict.fromkeys(each.kind for each in representations.values()))
    drawn, axes = plotting.figure(10.5, 2.6 * len(kinds) + 0.7, rows=len(kinds), columns=3, share="col")
    for name, about in representations.items():
        place = 3 * kinds.index(about.kind)
        first, second, third = axes[place : place + 3]
        densely = about.threshold is None
        color, label = plotting.PALETTE[0 if densely else 1], f"trained {'densely' if densely else 'with the rule'}"
        draw_training(first, training[(name,)], label, color)
        lasting = [row for row in settled[(name,)] if row["criterion"] == "lasting"]
        plotting.curve_of(second, panels.settled(lasting), "step", "units", label="_", color=color)
        test = [row for row in solved[(name,)] if row["split"] == "test"]
        lines(third, test, "psnr", color=color, label=f"{label}, solved ")
    for place, kind in enumerate(kinds):
        first, second, third = axes[3 * place : 3 * place + 3]
        first.set_title(kind)
        first.set_xlabel("MACs of training solves, 10⁹")
        second.set_xlabel("step")
        second.set_ylabel("units settled for good")
        third.set_xlabel("work left, % of the dense solve's MACs")
        for axis in (first, third):
            axis.set_ylabel("PSNR (dB)")
    plotting.legend(drawn, columns=3)
    return drawn


def draw_training(axes: Axes, history: Sequence[Row], label: str, color: str) -> None:
    """Draws the quality in training against the work of its solves so far."""
    seeds = panels.by_seed(history)
    work = np.mean([work_so_far(own, "macs_sparse") for own in seeds], axis=0) / 1e9
    plotting.curve(axes, work.tolist(), [numbers(own, "psnr") for own in seeds], label=label, color=color)


def pictures(images: Mapping[str, Mapping[str, np.ndarray]]) -> Figure:
    """The image, its representations solved densely and at the largest threshold, and the difference of these."""
    target = next(iter(images.values()))["target"]
    blank = ("", np.full((*target.shape[:2], 3), 255, np.uint8))
    last = {name: list(arrays)[-1] for name, arrays in images.items()}
    apart = {name: np.abs(own[last[name]] - own["dense"]).mean(axis=2) / 2 for name, own in images.items()}
    return plotting.image_grid(
        [
            [("target", colours(target)), *((f"{name}: dense", colours(own["dense"])) for name, own in images.items())],
            [blank, *((last[name], colours(own[last[name]])) for name, own in images.items())],
            [blank, *(("difference", each) for each in apart.values())],
        ],
        width=11.0,
        scale=Scale("difference, share of the range", 0, max(float(each.max()) for each in apart.values())),
    )


def colours(values: np.ndarray) -> np.ndarray:
    """Values (h, w, channels) in [-1, 1] as uint8 (h, w, 3)."""
    image = np.rint(255 * (np.clip(values, -1, 1) + 1) / 2).astype(np.uint8)
    return np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image


REPORT = Report(name="delta.inr_report", section="delta", page=page)
