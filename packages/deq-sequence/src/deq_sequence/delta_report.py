"""The report of the delta study: what was saved at which perplexity, and what stopping earlier would have cost."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deq_core.experiment.files import output_directory, write_json, write_text
from deq_core.experiment.study import plotting
from deq_core.experiment.tables import Row, Statistic, cell, grouped, markdown, numbers, read_rows, spread, statistic
from deq_sequence.delta_plot import delta_figure

FIGURE = "tradeoff.svg"
LOSSES = (0.01, 0.05)
"""Bounds that savings are given for: shares of the perplexity of the longest dense solve."""
MEGA = 1e6

Savings = list[dict[str, Any]]
"""A dictionary a method, variant, start and bound: by the rule `saved` (per cent) and `threshold`, by fewer dense
evaluations `fewer_saved` and `fewer_steps`, with deviations _std. What nothing within the bound saves is missing."""


def report(studies: Mapping[str, Sequence[Path]], *, out: Path, dpi: int) -> dict[str, Any]:
    """Writes report.md, the figure it shows and metrics.json to the folder `out`; returns what metrics.json holds.

    Args:
        studies: folders of `evaluate_delta` by method, one a seed.
    """
    tables = {method: [row for folder in folders for row in compared(folder)] for method, folders in studies.items()}
    found = [saving for method, rows in tables.items() for saving in savings(method, rows)]
    metrics = {"means": means(tables), "savings": found}
    parts = [
        "# The delta rule on language models",
        "Test text. Means ± standard deviation over seeds. MACs: multiply-accumulates of the cell in the solve of a "
        "token, of layers and attention; attention's products stay dense under the rule. Work is given in per cent of "
        "the longest dense solve from the same start; `stream` is compared with `previous`.",
        "## Work saved within a loss",
        "By the largest saving among thresholds, and among dense solves with fewer evaluations, whose mean perplexity "
        "is at most so much above that of the longest dense solve.",
        savings_table(found),
        "## All cases",
        cases_table(tables),
        f"![{FIGURE}]({FIGURE})",
    ]
    with output_directory(out) as partial:
        plotting.save(delta_figure(studies), partial / FIGURE, dpi=dpi)
        write_text(partial / "report.md", "\n\n".join(parts) + "\n")
        write_json(partial / "metrics.json", metrics)
    return metrics


def compared(folder: Path) -> list[Row]:
    """The rows of one seed's sweep, each with its share of the work of the longest dense solve, per cent, `work`."""
    rows = read_rows(folder / "sweep.csv")
    longest: dict[tuple[Any, ...], float] = {}
    for row in sorted(dense(rows), key=lambda row: numbers([row], "max_steps")):
        (longest[row["solver"], row["start"]],) = numbers([row], "macs_sparse")
    return [
        {**row, "work": 100 * numbers([row], "macs_sparse")[0] / longest[row["solver"], peer(row["start"])]}
        for row in rows
    ]


def dense(rows: Sequence[Row]) -> list[Row]:
    """Those of dense solves."""
    return [row for row in rows if "threshold" not in row]


def peer(start: Any) -> Any:
    """The start of the dense solves that one under the rule is compared with: they keep no memories of a segment."""
    return "previous" if start == "stream" else start


def savings(method: str, rows: Sequence[Row]) -> Savings:
    """What the rule and fewer evaluations save within each bound, for every variant and start."""
    found: Savings = []
    densely = grouped(dense(rows), ("solver", "start"))
    under_rule = [row for row in rows if "threshold" in row]
    for (variant, start, solver), own in grouped(under_rule, ("variant", "start", "solver")).items():
        fewer = {key: of_seeds for (key,), of_seeds in grouped(densely[solver, peer(start)], ("max_steps",)).items()}
        thresholds = {key: of_seeds for (key,), of_seeds in grouped(own, ("threshold",)).items()}
        reference = statistic(numbers(fewer[max(fewer)], "perplexity")).mean
        for loss in LOSSES:
            case = {"method": method, "variant": variant, "start": start, "loss": loss}
            by_rule = cheapest(thresholds, (1 + loss) * reference)
            by_steps = cheapest(fewer, (1 + loss) * reference)
            if by_rule is not None:
                case |= {"threshold": by_rule[0], **flat("saved", by_rule[1])}
            if by_steps is not None:
                case |= {"fewer_steps": by_steps[0], **flat("fewer_saved", by_steps[1])}
            found.append(case)
    return found


def cheapest(ways: Mapping[Any, Sequence[Row]], bound: float) -> tuple[Any, Statistic] | None:
    """The way of least mean work whose mean perplexity is within the bound, and what it saves, per cent; else None."""
    good = {
        way: statistic([100 - work for work in numbers(rows, "work")])
        for way, rows in ways.items()
        if statistic(numbers(rows, "perplexity")).mean <= bound
    }
    return max(good.items(), key=lambda item: item[1].mean, default=None)


def flat(name: str, value: Statistic) -> dict[str, float]:
    """Its mean and, of several seeds, its deviation."""
    return {name: value.mean} if math.isnan(value.std) else {name: value.mean, f"{name}_std": value.std}


def means(tables: Mapping[str, Sequence[Row]]) -> dict[str, float]:
    """{"method.variant.start.threshold.quantity": mean over seeds} of perplexity, residual and work."""
    return {
        ".".join([method, variant, start, f"dense-{steps}" if threshold is None else f"{threshold:g}", key]): statistic(
            numbers(of_seeds, key)
        ).mean
        for method, rows in tables.items()
        for (variant, start, threshold, steps), of_seeds in cases(rows).items()
        for key in ("perplexity", "residual", "work")
    }


def cases(rows: Sequence[Row]) -> dict[tuple[Any, ...], list[Row]]:
    """The rows of all seeds by case."""
    return grouped(rows, ("variant", "start", "threshold", "max_steps"))


def savings_table(found: Savings) -> str:
    """A row a method, variant, start and bound."""
    lines = [
        [
            *(str(case[name]) for name in ("method", "variant", "start")),
            f"{100 * case['loss']:g} %",
            *saved(case, "saved", "threshold"),
            *saved(case, "fewer_saved", "fewer_steps"),
        ]
        for case in found
    ]
    heads = ["method", "solver", "start", "loss up to", "saved by the rule, %", "threshold"]
    return markdown([*heads, "saved by fewer evaluations, %", "evaluations"], lines)


def saved(case: Mapping[str, Any], name: str, way: str) -> list[str]:
    """The share, with its deviation where there is one, and how it was reached."""
    if name not in case:
        return ["none within", ""]
    return [cell(case, name, "{:.1f}"), f"{case[way]:g}"]


def cases_table(tables: Mapping[str, Sequence[Row]]) -> str:
    """A row a method and case."""
    lines = []
    for method, rows in tables.items():
        for (variant, start, threshold, steps), of_seeds in cases(rows).items():
            how = f"dense, {steps}" if threshold is None else f"threshold {threshold:g}, {steps}"
            million: list[Row] = [{"million": numbers([row], "macs_sparse")[0] / MEGA} for row in of_seeds]
            skipped = "" if threshold is None else spread(of_seeds, "elements_skipped", "{:.2f}")
            numbers_of = [
                spread(of_seeds, "perplexity", "{:.3f}"),
                spread(of_seeds, "residual", "{:.1e}"),
                spread(million, "million", "{:.2f}"),
                spread(of_seeds, "work", "{:.1f}"),
            ]
            lines.append([method, str(variant), str(start), how, *numbers_of, skipped])
    heads = ["method", "solver", "start", "evaluations", "perplexity", "residual", "MACs, million", "work, %"]
    return markdown([*heads, "elements skipped"], lines)
