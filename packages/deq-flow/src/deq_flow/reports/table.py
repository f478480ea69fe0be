"""Report of the main table: errors of all methods on all sets, training curves, and errors by iteration."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from deq_core.experiment.config.plot import Plot
from deq_core.experiment.study import plotting
from deq_core.experiment.study.measured import first_seeds, networks
from deq_core.experiment.study.plotting import Figure
from deq_core.experiment.study.report import Page, Report, Results
from deq_core.experiment.study.stage import Section, Single
from deq_core.experiment.tables import Row, grouped, statistic
from deq_flow.evaluation.evaluate import summary
from deq_flow.evaluation.sets import titles
from deq_flow.reports.compared import compared
from deq_flow.reports.errors import Errors, differences, differences_table, errors_table, over_seeds_by_set

NOTES = {
    "zero": "predicts no motion; its EPE is the mean length of the true flow",
    "dis": "OpenCV's DIS, preset as shipped",
    "dis_fine": "OpenCV's DIS with its finest scale at full resolution",
}
Seeds = Sequence[Sequence[Row]]
"""One list of rows for each seed."""


def page(section: Section, results: Results) -> Page:
    """{method: {set: {metric: mean over seeds, metric_std: standard deviation}}}, baselines first."""
    plot, measured = section.load(Plot, "plot"), networks(section, methods="methods", seeds="seeds")
    methods = {each.network: [one for one in measured if one.network == each.network] for each in measured}

    def tables(stage: str, name: str) -> dict[str, Seeds]:
        return {method: results.by_case(stage, cases, name) for method, cases in methods.items()}

    peers = grouped(results.rows("baselines", [Single()], "samples"), ("method",))
    samples = {**{str(method): [rows] for (method,), rows in peers.items()}, **tables("evaluate", "samples")}
    values = over_seeds_by_set(samples)
    examples = {name: results.arrays("evaluate", each, "example") for name, each in first_seeds(measured).items()}
    own, *others = methods
    apart = differences(samples, own, [*others, *(str(method) for (method,) in peers)])
    return Page(
        title="Optical flow",
        metrics={**values, f"{own} less": apart},
        headline={method: {name: of_set["epe"] for name, of_set in values[method].items()} for method in methods},
        parts=parts(values, list(methods), apart),
        figures={
            "learning_curves": learning_curves(tables("train", "history"), plot.smoothing),
            "epe": errors(samples),
            "iterations": iterations(tables("evaluate", "steps")),
            "example": example(examples),
        },
        dpi=plot.dpi,
    )


def parts(values: Errors, trained: Sequence[str], apart: Errors) -> list[str]:
    """The parts of the page's text."""
    measured = values[trained[0]]
    pairs = ", ".join(f"{title} {int(measured[name]['pairs'])}" for name, title in titles(measured).items())
    seeds = max(int(of_set["seeds"]) for method in trained for of_set in values[method].values())
    notes = [f"- {method}: {text}" for method, text in NOTES.items() if method in values]
    if "sintel_clean" in measured:
        still = values["zero"]["sintel_clean"]["epe"]
        notes += [
            f"- {method}: the EPE on Sintel clean is {by_set['sintel_clean']['epe'] / still:.2f} of that of zero flow"
            for method, by_set in values.items()
            if method != "zero"
        ]
    return [
        f"Held-out pairs: {pairs}. Trained here: {', '.join(trained)}, mean ± standard deviation over {seeds} seeds.",
        "## End-point error, px (lower is better)",
        errors_table(values, "epe"),
        "\n".join(notes),
        f"## {trained[0]} minus the others, with 95 % intervals over scenes",
        "Differences of EPE; negative where the first method is better. The EPE of a scene is the mean over its pairs "
        "and seeds, and the intervals are from a bootstrap over scenes. They cover other scenes from the same "
        "photographs and the same renderer, nothing else.",
        differences_table(apart, trained[0]),
        "## F1-all, % of pixels with an error above 3 px and 5 % (lower is better)",
        errors_table(values, "f1_all", "{:.1f}"),
        "## Share of pixels with an error below 1 px (higher is better)",
        errors_table(values, "px1", "{:.3f}"),
    ]


def learning_curves(histories: Mapping[str, Seeds], smoothing: int) -> Figure:
    """Training and validation error against the step, mean over seeds with a band of one standard deviation."""
    figure, (training, validation) = plotting.figure(9.0, 3.5, columns=2, share="all")
    for method, seeds in histories.items():
        smooth = [plotting.smoothed(rows, ("step", "epe"), smoothing) for rows in seeds]
        plotting.curve_of(training, smooth, "step", "epe", label=method)
        plotting.curve_of(validation, seeds, "step", "val_epe", label=method)
    training.set_title("training batches")
    validation.set_title("validation pairs")
    plotting.name_axes(figure, x="training step", y="EPE (px)")
    plotting.legend(figure)
    return figure


def errors(samples: Mapping[str, Seeds]) -> Figure:
    """EPE of all methods on all sets; error bars are one standard deviation over seeds."""
    figure, (axes,) = plotting.figure(9.0, 3.5)
    summaries = {method: [summary(rows) for rows in seeds] for method, seeds in samples.items()}
    groups = {
        title: {method: statistic([of[name]["epe"] for of in seeds]) for method, seeds in summaries.items()}
        for name, title in titles(next(iter(summaries.values()))[0]).items()
    }
    plotting.bars(axes, groups)
    axes.set_ylabel("EPE (px)")
    plotting.legend(figure, columns=len(summaries))
    return figure


def iterations(runs: Mapping[str, Seeds]) -> Figure:
    """EPE after each iteration on Sintel clean and KITTI, and the relative residual of the equilibrium solves.

    Without these sets, it is on the first one.
    """
    headings = titles(str(row["set"]) for seeds in runs.values() for row in seeds[0])
    first, *others = [name for name in ("sintel_clean", "kitti") if name in headings] or list(headings)[:1]
    shown = ((first, "epe"), *((name, "epe") for name in others), (first, "residual"))
    figure, panels = plotting.figure(9.0, 3.5, columns=len(shown))
    labels = {"epe": "EPE (px)", "residual": "relative residual"}
    for axes, (name, key) in zip(panels, shown, strict=True):
        for method, seeds in runs.items():
            chosen = [[row for row in rows if row["set"] == name] for rows in seeds]
            if key in chosen[0][0]:
                plotting.curve_of(axes, chosen, "step", key, label=method, geometric=key == "residual")
        axes.set_title(headings[name])
        axes.set_xlabel("iterations at test time")
        axes.set_ylabel(labels[key])
    panels[-1].set_yscale("log")
    plotting.legend(figure)
    return figure


def example(predictions: Mapping[str, Mapping[str, Any]]) -> Figure:
    """One held-out pair, solved by each trained method."""
    shared = {name: torch.from_numpy(array) for name, array in next(iter(predictions.values())).items()}
    flows = {method: torch.from_numpy(arrays["flow"]) for method, arrays in predictions.items()}
    return compared(shared["image1"], shared["image2"], shared["target"], shared["valid"].bool(), flows)


REPORT = Report(name="flow.table_report", section="flow", page=page)
