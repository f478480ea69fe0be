"""The report of perplexities: models and n-grams, perplexity after each evaluation, learning curves."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deq_core.experiment.config import Name, Seed
from deq_core.experiment.config.plot import Plot
from deq_core.experiment.study import plotting
from deq_core.experiment.study.plotting import Figure
from deq_core.experiment.study.report import Page, Report, Results
from deq_core.experiment.study.stage import Section, Single
from deq_core.experiment.tables import Row, cell, grouped, markdown, numbers, over_seeds, statistic_of
from deq_sequence.studies.perplexity import Evaluate, Trained

REPORTED = ("perplexity", "bits_per_character", "loss", "residual", "steps", "converged")
"""Reported quantities of a model; for n-grams the first three."""
SHOWN = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 60)
"""Numbers of evaluations in the table of sweeps, as far as they were measured."""

Metrics = Mapping[str, Any]
"""`scores`: {text: {method: {quantity: mean, quantity_std: deviation, seeds}}}; `sweeps`: {method: {solver:
{evaluation: {perplexity, perplexity_std, residual, residual_std}}}}."""


@dataclass(frozen=True)
class Found:
    """Results of each method, one list per seed."""

    texts: dict[str, str]
    """Text of each method."""
    ngrams: list[Row]
    histories: dict[str, list[list[Row]]]
    metrics: dict[str, list[Mapping[str, float]]]
    steps: dict[str, dict[str, list[list[Row]]]]
    """Rows after each evaluation, by method and solver."""


def page(section: Section, results: Results) -> Page:
    """The page, with means and standard deviations over seeds."""
    methods, seeds = section.load(tuple[Name, ...], "methods"), section.load(tuple[Seed, ...], "seeds")
    protocols, plot = section.load(dict[Name, Evaluate], "evaluate"), section.load(Plot, "plot")
    cases = {method: [Trained(method, seed) for seed in seeds] for method in methods}
    found = Found(
        texts={method: protocols[method].text for method in methods},
        ngrams=results.rows("baselines", [Single()], "orders"),
        histories={method: results.by_case("train", of, "history") for method, of in cases.items()},
        metrics={method: [results.metrics("evaluate", case) for case in of] for method, of in cases.items()},
        steps={method: by_solver(results.by_case("evaluate", of, "steps")) for method, of in cases.items()},
    )
    metrics = {"scores": scores(found), "sweeps": sweeps(found)}
    return Page(
        title="Language models",
        metrics=metrics,
        headline={
            method: {name: metrics["scores"][text][method][name] for name in ("perplexity", "bits_per_character")}
            for method, text in found.texts.items()
        },
        parts=[
            f"Trained here: {', '.join(methods)}, mean ± standard deviation over {len(seeds)} seeds. Measured on the "
            f"split {', '.join(dict.fromkeys(protocols[method].split for method in methods))}.",
            "## Perplexity (lower is better)",
            table(metrics),
            "Perplexities are comparable between methods on the same text, bits per character between all methods. "
            "Kneser-Ney n is an n-gram model of order n of the training text. A solve of an equilibrium returns the "
            "state of lowest residual, which need not be the last one; an unrolled layer returns the last one. "
            "`residual` and `returned at evaluation` are those of the returned state.",
            "## Perplexity after each evaluation, and relative residual",
            sweep_table(metrics),
        ],
        figures={
            "bits_per_character": bits(metrics),
            "iterations": iterations(found, metrics),
            "learning_curves": learning_curves(found, plot),
        },
        dpi=plot.dpi,
    )


def by_solver(runs: Sequence[list[Row]]) -> dict[str, list[list[Row]]]:
    """Rows of each solver, one list per seed."""
    parts = [grouped(rows, ("solver",)) for rows in runs]
    return {solver: [part[solver,] for part in parts] for (solver,) in parts[0]}


def scores(found: Found) -> dict[str, dict[str, dict[str, float]]]:
    """{text: {method: {quantity: mean, quantity_std: deviation, seeds}}}, n-grams first."""
    measured = {
        method: {**over_seeds([{name: run[name] for name in REPORTED} for run in runs]), "seeds": len(runs)}
        for method, runs in found.metrics.items()
    }
    return {
        text: {
            **{
                f"Kneser-Ney {row['order']}": {**{name: numbers([row], name)[0] for name in REPORTED[:3]}, "seeds": 1}
                for row in found.ngrams
                if row["text"] == text
            },
            **{method: measured[method] for method in methods},
        }
        for text, methods in by_text(found).items()
    }


def sweeps(found: Found) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """{method: {solver: {evaluation: {perplexity, perplexity_std, residual, residual_std}}}}."""
    return {
        method: {
            solver: {
                f"{step:g}": over_seeds(
                    [{key: numbers([rows[place]], key)[0] for key in ("perplexity", "residual")} for rows in runs]
                )
                for place, step in enumerate(numbers(runs[0], "step"))
            }
            for solver, runs in solvers.items()
        }
        for method, solvers in found.steps.items()
    }


def by_text(found: Found) -> dict[str, list[str]]:
    """The methods of each text."""
    texts = dict.fromkeys(found.texts.values())
    return {text: [method for method, its in found.texts.items() if its == text] for text in texts}


def table(metrics: Metrics) -> str:
    """Table with one row per method, grouped by text."""
    forms = {"perplexity": "{:.2f}", "bits_per_character": "{:.3f}", "residual": "{:.1e}", "steps": "{:.1f}"}
    lines = [
        [text, method, *(cell(values, key, form) if key in values else "" for key, form in forms.items())]
        for text, methods in metrics["scores"].items()
        for method, values in methods.items()
    ]
    heads = ["text", "method", "perplexity", "bits per character", "residual", "returned at evaluation"]
    return markdown(heads, lines, names=2)


def sweep_table(metrics: Metrics) -> str:
    """Table of perplexity, and below it the residual: one row per method and solver, one column per evaluation.

    Columns are empty beyond the sweep of a method.
    """
    measured = max(len(steps) for solvers in metrics["sweeps"].values() for steps in solvers.values())
    shown = [str(step) for step in SHOWN if step <= measured]
    lines = [
        [method, solver, key, *(cell(steps[step], key, form) if step in steps else "" for step in shown)]
        for method, solvers in metrics["sweeps"].items()
        for solver, steps in solvers.items()
        for key, form in (("perplexity", "{:.2f}"), ("residual", "{:.0e}"))
    ]
    return markdown(["method", "solver", "quantity", *shown], lines, names=3)


def learning_curves(found: Found, plot: Plot) -> Figure:
    """Perplexity of training batches and of the validation text against the update, one column per text."""
    texts = by_text(found)
    figure, panels = plotting.figure(4.5 * len(texts), 6.0, rows=2, columns=len(texts))
    for text, training, validation in zip(texts, panels[: len(texts)], panels[len(texts) :], strict=True):
        for method in texts[text]:
            runs = [
                [
                    {**row, "perplexity": math.exp(numbers([row], "task_loss")[0])}
                    for row in plotting.smoothed(rows, ("step", "task_loss"), plot.smoothing)
                ]
                for rows in found.histories[method]
            ]
            plotting.curve_of(training, runs, "step", "perplexity", label=method, geometric=True)
            plotting.curve_of(
                validation, found.histories[method], "step", "val_perplexity", label=method, geometric=True
            )
        for axes, name in ((training, "training batches"), (validation, "validation text")):
            axes.set_title(f"{text}: {name}")
            axes.set_xlabel("training step")
            axes.set_ylabel("perplexity")
            axes.set_yscale("log")
    plotting.legend(figure)
    return figure


def iterations(found: Found, metrics: Metrics) -> Figure:
    """Perplexity after each evaluation at test time, and below it the relative residual, one column per text.

    Horizontal lines are n-grams.
    """
    texts = by_text(found)
    figure, panels = plotting.figure(4.5 * len(texts), 6.5, rows=2, columns=len(texts))
    for text, upper, lower in zip(texts, panels[: len(texts)], panels[len(texts) :], strict=True):
        for method in texts[text]:
            for solver, runs in found.steps[method].items():
                label = method if solver == "unrolled" else f"{method}, {solver}"
                plotting.curve_of(upper, runs, "step", "perplexity", label=label, geometric=True)
                plotting.curve_of(lower, runs, "step", "residual", label=label, geometric=True)
        for name, values in metrics["scores"][text].items():
            if name.startswith("Kneser-Ney") and not name.endswith(" 1"):
                upper.axhline(values["perplexity"], color=plotting.PALETTE[-1], linestyle="--", linewidth=1)
                place = (1, values["perplexity"])
                upper.annotate(name, place, color=plotting.PALETTE[-1], fontsize=7, va="bottom")
        upper.set_title(text)
        upper.set_ylabel("perplexity")
        lower.set_ylabel("relative residual")
        lower.set_xlabel("evaluations at test time")
        for axes in (upper, lower):
            axes.set_yscale("log")
    plotting.legend(figure)
    return figure


def bits(metrics: Metrics) -> Figure:
    """Bits per character of every method, which are comparable between tokenisations."""
    figure, (axes,) = plotting.figure(9.0, 3.5)
    plotting.bars(
        axes,
        {
            text: {name: statistic_of(values, "bits_per_character") for name, values in methods.items()}
            for text, methods in metrics["scores"].items()
        },
    )
    axes.set_ylabel("bits per character")
    plotting.legend(figure)
    return figure


REPORT = Report(name="sequence.report", section="sequence", page=page)
