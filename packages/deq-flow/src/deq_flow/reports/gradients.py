"""Report of gradients and corrections: errors and residuals of the trained networks."""

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

from deq_core.experiment.config import Name
from deq_core.experiment.study import plotting
from deq_core.experiment.study.measured import Measured
from deq_core.experiment.study.plotting import PALETTE, Figure
from deq_core.experiment.study.report import Page, Report, Results
from deq_core.experiment.study.stage import Section, Single, flat
from deq_core.experiment.tables import Row, cell, grouped, markdown, over_seeds
from deq_flow.evaluation.evaluate import summary
from deq_flow.evaluation.sets import titles

FORMS = {"last": "last state only", "corrected": "last and corrected states"}
"""Kinds of supervision, as the report calls them."""
Seeds = Sequence[Mapping[str, float]]
"""The flat metrics of the network of each seed."""


def page(section: Section, results: Results) -> Page:
    """For each method and form {set.metric: mean over seeds, set.metric_std: standard deviation}, and differences.

    `correction` has the metrics with correction minus those without it, and `less METHOD`, by form, the metrics of a
    method minus those of the first one. Both networks of a pair have the same initial weights and batches, and both
    have learned. `zero` has the error of zero flow.
    """
    methods = section.load(tuple[Name, ...], "gradients.methods")
    supervised = (
        *section.load(tuple[int, ...], "gradients.model.correction"),
        section.load(int, "gradients.model.layer.stop.max_steps"),
    )
    found = {method: results.metrics("gradients", Measured(method)) for method in methods}
    runs = {method: {form: [flat(run) for run in of[form].values()] for form in FORMS} for method, of in found.items()}
    still = summary([row for row in results.rows("baselines", [Single()], "samples") if row["method"] == "zero"])
    measured = {name for forms in runs.values() for seeds in forms.values() for run in seeds for name in run}
    zero = {f"{name}.epe": values["epe"] for name, values in still.items() if f"{name}.epe" in measured}
    metrics = {"zero": zero, "methods": compared(runs, zero)}
    rows = {
        table: {method: results.rows("gradients", [Measured(method)], table) for method in methods}
        for table in ("steps", "history")
    }
    smoothing = section.load(int, "plot.smoothing")
    return Page(
        title="Inexact gradients and sparse fixed-point correction",
        metrics=metrics,
        parts=[
            "Networks of one size, trained by each gradient with a loss on the last state only, and with an additional "
            "loss on corrected states. Means ± standard deviation over the seeds that did not diverge.",
            table(metrics),
        ],
        figures={"training": figure(**rows, zero=zero, supervised=supervised, smoothing=smoothing)},
        dpi=section.load(int, "plot.dpi"),
    )


def compared(runs: Mapping[str, Mapping[str, Seeds]], zero: Mapping[str, float]) -> dict[str, Any]:
    """The metrics of each method.

    `seeds` is the number of its networks, and `lost` the number of those that are worse than zero flow on some set or
    diverged. Means are over the networks that did not diverge.
    """
    found: dict[str, Any] = {}
    first = next(iter(runs))
    for method, forms in runs.items():
        finite = {form: [run for run in forms[form] if "diverged" not in run] for form in FORMS}
        found[method] = {
            form: {
                **(over_seeds(finite[form]) if finite[form] else {}),
                "seeds": len(forms[form]),
                "lost": sum(is_lost(run, zero) for run in forms[form]),
            }
            for form in FORMS
        }
        found[method]["correction"] = differences(forms["corrected"], forms["last"], zero)
        if method != first:
            found[method][f"less {first}"] = {form: differences(forms[form], runs[first][form], zero) for form in FORMS}
    return found


def is_lost(run: Mapping[str, float], zero: Mapping[str, float]) -> bool:
    """Whether a network diverged, or has a larger error than zero flow on some set."""
    return any(run.get(name, math.inf) > error for name, error in zero.items())


def differences(ours: Seeds, theirs: Seeds, zero: Mapping[str, float]) -> dict[str, float]:
    """Mean and deviation over seeds of ours minus theirs, and in `..._agree` whether all have the same sign.

    Pairs with a lost network do not count; without any other pair the result is empty.
    """
    pairs = [pair for pair in zip(ours, theirs, strict=True) if not any(is_lost(run, zero) for run in pair)]
    if not pairs:
        return {}
    apart = [{name: one[name] - other[name] for name in one} for one, other in pairs]
    signs = {name: {(each[name] > 0) - (each[name] < 0) for each in apart} for name in apart[0]}
    return {**over_seeds(apart), **{f"{name}_agree": float(len(found) == 1) for name, found in signs.items()}}


def sets_of(metrics: Mapping[str, Any]) -> dict[str, str]:
    """The sets that were measured, by name, with their titles."""
    return titles(name.removesuffix(".epe") for name in metrics["zero"])


def table(metrics: Mapping[str, Any]) -> str:
    """Table of errors, residual, largest gradient and number of lost trainings, by method and supervision.

    The logged gradient norm is the mean over the `every.log` updates of a row.
    """
    sets = sets_of(metrics)
    lines = [
        [
            method,
            said,
            *(known(forms[form], f"{name}.epe", "{:.2f}") for name in sets),
            known(forms[form], f"{next(iter(sets))}.residual", "{:.3f}"),
            known(forms[form], "gradient_norm", "{:.0f}"),
            f"{forms[form]['lost']} of {forms[form]['seeds']}",
        ]
        for method, forms in metrics["methods"].items()
        for form, said in FORMS.items()
    ]
    lines.append(["zero flow", "-", *(f"{metrics['zero'][f'{name}.epe']:.2f}" for name in sets), "-", "-", "-"])
    heads = ["gradient", "supervised", *(f"EPE, px, {title}" for title in sets.values())]
    heads += [f"residual, {next(iter(sets.values()))}", "largest logged gradient norm", "worse than zero flow"]
    return markdown(heads, lines, names=2)


def known(values: Mapping[str, float], name: str, form: str) -> str:
    """Mean and deviation, or a dash if all networks diverged."""
    return cell(values, name, form) if name in values else "-"


def figure(
    *,
    steps: Mapping[str, list[Row]],
    history: Mapping[str, list[Row]],
    zero: Mapping[str, float],
    supervised: Sequence[int],
    smoothing: int,
) -> Figure:
    """Error and residual by iteration at test time, and gradient norm by update, with a row for each form.

    Dotted lines are the supervised iterations and the error of zero flow.
    """
    shown = next(iter(zero)).removesuffix(".epe")
    drawn, panels = plotting.figure(9.5, 5.4, rows=2, columns=3, share="col")
    dotted = {"color": "0.5", "linewidth": 0.8, "linestyle": ":"}
    for place, (form, said) in enumerate(FORMS.items()):
        error, residual, norm = own = panels[3 * place : 3 * place + 3]
        for method, colour in zip(steps, cycle(PALETTE)):
            look = {"label": method, "color": colour, "geometric": True}
            tested = seeds_of([row for row in steps[method] if row["set"] == shown], form)
            if not tested:
                continue
            columns = ("step", "gradient_norm")
            trained = [plotting.smoothed(rows, columns, smoothing) for rows in seeds_of(history[method], form)]
            plotting.curve_of(error, tested, "step", "epe", **look)
            plotting.curve_of(residual, tested, "step", "residual", **look)
            plotting.curve_of(norm, trained, *columns, **look)
        error.axhline(zero[f"{shown}.epe"], **dotted)
        for axes in (error, residual):
            for step in supervised if form == "corrected" else supervised[-1:]:
                axes.axvline(step, **dotted)
        for axes, label in zip(own, ("EPE (px)", "relative residual", "gradient norm"), strict=True):
            axes.set_title(said)
            axes.set_ylabel(label)
            axes.set_yscale("log")
    for axes in (panels[0], panels[3]):  # labels in pixels, not as powers of ten
        low, high = axes.get_ylim()
        axes.set_yticks([step * 10.0**power for power in range(-2, 4) for step in (1, 2, 5)])
        axes.set_yticks([], minor=True)
        axes.set_ylim(low, high)
        axes.yaxis.set_major_formatter("{x:g}")
    for axes in panels[3:]:
        axes.set_xlabel("training step" if axes is panels[-1] else "iterations at test time")
    plotting.legend(drawn)
    return drawn


def seeds_of(rows: Sequence[Row], form: str) -> list[list[Row]]:
    """The rows of the networks of a form, in one list for each seed."""
    own = [row for row in rows if row["supervised"] == form]
    return list(grouped(own, ("seed",)).values())


REPORT = Report(name="flow.gradients_report", section="flow", page=page)
