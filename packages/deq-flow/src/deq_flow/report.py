"""The report of the flow pipeline: one table of all methods and sets, with the figures below it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from deq_core.experiment.files import write_json, write_text
from deq_core.experiment.tables import Row, cell, over_seeds, read_metrics
from deq_flow.evaluate import summary
from deq_flow.sets import titles
from deq_flow.tables import Tables, samples_by_method, samples_by_stage

Metrics = dict[str, dict[str, dict[str, float]]]
ReuseMetrics = dict[str, dict[str, dict[str, dict[str, float]]]]
"""{method: {budget: {start: {metric: mean over seeds, metric_std: standard deviation}}}}."""

METHOD_NOTES = {
    "zero": "predicts no motion; its EPE is the mean length of the true flow",
    "dis": "OpenCV's DIS, preset as shipped",
    "dis_fine": "OpenCV's DIS solved down to full resolution",
}


def metrics(samples: Mapping[str, Sequence[Sequence[Row]]]) -> Metrics:
    """{method: {set: {metric: mean over seeds, metric_std: standard deviation}}}, with `seeds` their number.

    `samples` are rows of each method, a list a seed.
    """
    result: Metrics = {}
    for method, runs in samples.items():
        summaries = [summary(rows) for rows in runs]
        result[method] = {}
        for name in summaries[0]:
            values = over_seeds([by_set[name] for by_set in summaries])
            pairs = values.pop("pairs")
            values.pop("pairs_std", None)
            result[method][name] = {"pairs": int(pairs), "seeds": len(summaries), **values}
    return result


def table(values: Metrics, metric: str = "epe", form: str = "{:.2f}") -> str:
    """Markdown table of one metric: a row a method, a column a set, mean ± standard deviation over seeds."""
    sets = titles(next(iter(values.values())))
    lines = [f"| method | {' | '.join(sets.values())} |", "| --- |" + " ---: |" * len(sets)]
    for method, by_set in values.items():
        cells = [cell(by_set[name], metric, form) for name in sets]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def report(tables: Tables, figures: Sequence[str], *, out: Path) -> Metrics:
    """Writes report.md and metrics.json to the folder `out`; figures are linked by name in `figures/`."""
    values = metrics(samples_by_method(tables))
    trained = [method for method in values if method in tables.evaluate]
    seeds = max(int(values[method][name]["seeds"]) for method in trained for name in values[method])
    measured = values[trained[0]]
    pairs = ", ".join(f"{title} {int(measured[name]['pairs'])}" for name, title in titles(measured).items())
    ratios = [
        f"- {method}: Sintel clean EPE is {ratio:.2f} of zero flow's"
        for method in values
        if method != "zero" and (ratio := relative_to_zero(values, method)) is not None
    ]
    notes = [f"- {method}: {text}" for method, text in METHOD_NOTES.items() if method in values]
    parts = [
        "# Optical flow",
        f"Held-out pairs: {pairs}. Trained: {', '.join(trained)}; mean ± standard deviation over {seeds} seeds.",
        "## End-point error, px (lower is better)",
        table(values, "epe"),
        "\n".join([*notes, *ratios]),
        "## F1-all, % of pixels wrong by more than 3 px and 5 % (lower is better)",
        table(values, "f1_all", "{:.1f}"),
        "## Share of pixels within 1 px (higher is better)",
        table(values, "px1", "{:.3f}"),
        *curriculum_section(tables),
        *reuse_section(tables),
        *(f"![{name}](figures/{name})" for name in figures),
    ]
    write_text(out / "report.md", "\n\n".join(parts) + "\n")
    write_json(out / "metrics.json", values)
    return values


def curriculum_section(tables: Tables) -> list[str]:
    """Markdown of the curriculum: the error after each of its stages."""
    if not tables.curriculum:
        return []
    return ["## End-point error after each stage of the curriculum, px", table(metrics(samples_by_stage(tables)))]


def reuse_metrics(tables: Tables) -> ReuseMetrics:
    """The study of starts, means and standard deviations over seeds."""
    result: ReuseMetrics = {}
    for method, folders in tables.reuse.items():
        runs = [read_metrics(folder / "metrics.json") for folder in folders]
        result[method] = {
            budget: {start: over_seeds([run[budget][start] for run in runs]) for start in by_start}
            for budget, by_start in runs[0].items()
        }
    return result


def reuse_table(found: ReuseMetrics) -> str:
    """A row a method, budget and start."""
    lines = [
        "| method | budget | start | EPE, px | evaluations | converged, % of pairs |",
        "| --- | --- | --- | ---: | ---: | ---: |",
    ]
    for method, budgets in found.items():
        for budget, by_start in budgets.items():
            for start, values in by_start.items():
                share = {name: 100 * value for name, value in values.items() if name.startswith("converged")}
                converged = cell(share, "converged", "{:.0f}") if share else "-"
                cells = (cell(values, "epe", "{:.2f}"), cell(values, "iterations", "{:.1f}"), converged)
                lines.append(f"| {method} | {budget} | {start} | {' | '.join(cells)} |")
    return "\n".join(lines)


def reuse_section(tables: Tables) -> list[str]:
    """Markdown of the study of starts."""
    if not tables.reuse:
        return []
    return ["## Videos: starting from the last frame", reuse_table(reuse_metrics(tables))]


def relative_to_zero(values: Metrics, method: str) -> float | None:
    """EPE on Sintel clean as a fraction of zero flow's, where both were measured."""
    if "zero" not in values or "sintel_clean" not in values[method]:
        return None
    return values[method]["sintel_clean"]["epe"] / values["zero"]["sintel_clean"]["epe"]
