"""The report of the sequence pipeline: perplexities of all methods, and what more evaluations buy."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deq_core.experiment.files import write_json, write_text
from deq_core.experiment.tables import Statistic, numbers, statistic
from deq_sequence.tables import Tables, scores, sweeps

Metrics = dict[str, Any]
"""`scores`: {text: {method: {quantity: mean, quantity_std: deviation, seeds}}}; `sweeps`: {method: {solver:
{evaluation: {perplexity, perplexity_std, residual, residual_std}}}}."""

SHOWN = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 60)
"""Evaluations in the table of sweeps, as far as they were measured."""


def report(tables: Tables, figures: Sequence[str], *, out: Path) -> Metrics:
    """Writes report.md and metrics.json to the folder `out`; figures are linked by name in `figures/`."""
    metrics = collected(tables)
    seeds = max(len(folders) for folders in tables.evaluate.values())
    parts = [
        "# Language models",
        f"Trained: {', '.join(tables.evaluate)}; mean ± standard deviation over {seeds} seeds. Test text.",
        "## Perplexity (lower is better)",
        table(metrics),
        "Perplexities compare methods on one text, bits per character compare all. Kneser-Ney n counts the n-grams of "
        "the training text. `residual` and `evaluations` are those of the reported solve.",
        "## Perplexity after each evaluation, and relative residual",
        sweep_table(metrics),
        *(f"![{name}](figures/{name})" for name in figures),
    ]
    write_text(out / "report.md", "\n\n".join(parts) + "\n")
    write_json(out / "metrics.json", metrics)
    return metrics


def collected(tables: Tables) -> Metrics:
    """Everything that the report says, as numbers."""
    swept = {
        method: {
            solver: {
                str(int(step)): flat(
                    {
                        key: statistic([numbers([run[place]], key)[0] for run in runs])
                        for key in ("perplexity", "residual")
                    }
                )
                for place, step in enumerate(numbers(runs[0], "step"))
            }
            for solver, runs in by_solver.items()
        }
        for method, by_solver in sweeps(tables).items()
    }
    found = {
        text: {name: {**flat(values), "seeds": values["perplexity"].n} for name, values in by_method.items()}
        for text, by_method in scores(tables).items()
    }
    return {"scores": found, "sweeps": swept}


def flat(values: Mapping[str, Statistic]) -> dict[str, float]:
    """{quantity: mean, quantity_std: deviation}; a single value has no deviation."""
    result: dict[str, float] = {}
    for name, value in values.items():
        result[name] = value.mean
        if not math.isnan(value.std):
            result[f"{name}_std"] = value.std
    return result


def table(metrics: Metrics) -> str:
    """Markdown table: a row a method, by text."""
    lines = [
        "| text | method | test perplexity | bits per character | residual | evaluations |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for text, by_method in metrics["scores"].items():
        for method, values in by_method.items():
            solved = [cell(values, "residual", ".1e"), cell(values, "steps", ".1f")] if "steps" in values else ["", ""]
            cells = [cell(values, "perplexity", ".2f"), cell(values, "bits_per_character", ".3f"), *solved]
            lines.append(f"| {text} | {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def sweep_table(metrics: Metrics) -> str:
    """Markdown table: a row a method and solver, a column an evaluation; perplexity, and the residual below it."""
    measured = max(len(steps) for by_solver in metrics["sweeps"].values() for steps in by_solver.values())
    shown = [step for step in SHOWN if step <= measured]
    lines = [
        f"| method | solver | | {' | '.join(map(str, shown))} |",
        "| --- | --- | --- |" + " ---: |" * len(shown),
    ]
    for method, by_solver in metrics["sweeps"].items():
        for solver, steps in by_solver.items():
            for key, form in (("perplexity", ".2f"), ("residual", ".0e")):
                cells = [cell(steps[str(step)], key, form) for step in shown]
                lines.append(f"| {method} | {solver} | {key} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cell(values: Mapping[str, float], name: str, form: str) -> str:
    """`4.73 ± 0.04`, or the bare mean where there is one seed."""
    text = f"{values[name]:{form}}"
    return f"{text} ± {values[f'{name}_std']:{form}}" if f"{name}_std" in values else text
