"""The report of the delta study: what was saved at which perplexity, and what stopping earlier would have cost."""

from collections.abc import Mapping, Sequence
from typing import Any

from deq_core.experiment.config import Name, Seed
from deq_core.experiment.config.plot import Plot
from deq_core.experiment.study import plotting
from deq_core.experiment.study.plotting import PALETTE, Figure
from deq_core.experiment.study.report import Page, Report, Results
from deq_core.experiment.study.stage import Section
from deq_core.experiment.tables import (
    Row,
    cell,
    grouped,
    markdown,
    numbers,
    over_seeds,
    spread,
    statistic,
)
from deq_sequence.studies.delta import Delta, Trained

LOSSES = (0.01, 0.05)
"""Bounds that savings are given for: shares of the perplexity of the longest dense solve."""
MEGA = 1e6

Runs = Mapping[str, Sequence[list[Row]]]
"""By method, rows of the table `sweep`, a list a seed, each with its share of the work of the longest dense solve from
the same start, per cent, `work`."""
Savings = list[dict[str, Any]]
"""A dictionary a method, variant, start and bound: by the rule `saved` (per cent) and `threshold`, by fewer dense
evaluations `fewer_saved` and `fewer_steps`, with deviations _std. What nothing within the bound saves is missing."""


def page(section: Section, results: Results) -> Page:
    """Means over seeds of all cases, and the largest savings within each bound."""
    methods, seeds = section.load(dict[Name, Delta], "delta"), section.load(tuple[Seed, ...], "seeds")
    runs = {
        method: [compared(rows) for rows in results.by_case("delta", [Trained(method, s) for s in seeds], "sweep")]
        for method in methods
    }
    found = [saving for method, of_seeds in runs.items() for saving in savings(method, joined(of_seeds))]
    return Page(
        title="The delta rule on language models",
        metrics={"means": means(runs), "savings": found},
        parts=[
            "Means ± standard deviation over seeds. MACs: multiply-accumulates of the cell in the solve of a "
            "token, of layers and attention; attention's products stay dense under the rule. Work is given in per cent "
            "of the longest dense solve from the same start; `stream` is compared with `previous`.",
            "## Work saved within a loss",
            "By the largest saving among thresholds, and among dense solves with fewer evaluations, whose mean "
            "perplexity is at most so much above that of the longest dense solve.",
            savings_table(found),
            "## All cases",
            cases_table(runs),
        ],
        figures={"tradeoff": tradeoff(runs)},
        dpi=section.load(Plot, "plot").dpi,
    )


def compared(rows: Sequence[Row]) -> list[Row]:
    """The rows of one seed with their share of the work."""
    longest: dict[tuple[Any, ...], float] = {}
    for row in sorted(dense(rows), key=lambda row: numbers([row], "max_steps")):
        (longest[row["solver"], row["start"]],) = numbers([row], "macs_sparse")
    return [
        {**row, "work": 100 * numbers([row], "macs_sparse")[0] / longest[row["solver"], dense_start(row["start"])]}
        for row in rows
    ]


def joined(runs: Sequence[list[Row]]) -> list[Row]:
    """The rows of all seeds."""
    return [row for rows in runs for row in rows]


def dense(rows: Sequence[Row]) -> list[Row]:
    """Those of dense solves."""
    return [row for row in rows if "threshold" not in row]


def dense_start(start: Any) -> Any:
    """The start of the dense solves that one under the rule is compared with: they keep no memories of a segment."""
    return "previous" if start == "stream" else start


def savings(method: str, rows: Sequence[Row]) -> Savings:
    """What the rule and fewer evaluations save within each bound, for every variant and start."""
    found: Savings = []
    densely = grouped(dense(rows), ("solver", "start"))
    under_rule = [row for row in rows if "threshold" in row]
    for (variant, start, solver), own in grouped(under_rule, ("variant", "start", "solver")).items():
        fewer = {key: each for (key,), each in grouped(densely[solver, dense_start(start)], ("max_steps",)).items()}
        thresholds = {key: each for (key,), each in grouped(own, ("threshold",)).items()}
        reference = statistic(numbers(fewer[max(fewer)], "perplexity")).mean
        for loss in LOSSES:
            case = {"method": method, "variant": variant, "start": start, "loss": loss}
            for ways, way, name in ((thresholds, "threshold", "saved"), (fewer, "fewer_steps", "fewer_saved")):
                if (best := cheapest(ways, (1 + loss) * reference)) is not None:
                    case |= {way: best, **over_seeds([{name: 100 - work} for work in numbers(ways[best], "work")])}
            found.append(case)
    return found


def cheapest(ways: Mapping[Any, Sequence[Row]], bound: float) -> Any | None:
    """The way of least mean work whose mean perplexity is within the bound; None where there is none."""
    good = {
        way: statistic([100 - work for work in numbers(rows, "work")]).mean
        for way, rows in ways.items()
        if statistic(numbers(rows, "perplexity")).mean <= bound
    }
    return max(good, key=lambda way: good[way], default=None)


def means(runs: Runs) -> dict[str, float]:
    """{"method.variant.start.threshold.quantity": mean over seeds} of perplexity, residual and work."""
    return {
        ".".join([method, variant, start, f"dense-{steps}" if threshold is None else f"{threshold:g}", key]): statistic(
            numbers(of_seeds, key)
        ).mean
        for method, rows in runs.items()
        for (variant, start, threshold, steps), of_seeds in ways(joined(rows)).items()
        for key in ("perplexity", "residual", "work")
    }


def ways(rows: Sequence[Row]) -> dict[tuple[Any, ...], list[Row]]:
    """The rows of all seeds by way to solve."""
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
    return [cell(case, name, "{:.1f}"), f"{case[way]:g}"] if name in case else ["none within", ""]


def cases_table(runs: Runs) -> str:
    """A row a method and way to solve."""
    lines = []
    for method, rows in runs.items():
        for (variant, start, threshold, steps), of_seeds in ways(joined(rows)).items():
            million = [{"million": work / MEGA} for work in numbers(of_seeds, "macs_sparse")]
            lines.append(
                [
                    *(method, variant, start),
                    f"dense, {steps}" if threshold is None else f"threshold {threshold:g}, {steps}",
                    spread(of_seeds, "perplexity", "{:.3f}"),
                    spread(of_seeds, "residual", "{:.1e}"),
                    spread(million, "million", "{:.2f}"),
                    spread(of_seeds, "work", "{:.1f}"),
                    "" if threshold is None else spread(of_seeds, "elements_skipped", "{:.2f}"),
                ]
            )
    heads = ["method", "solver", "start", "evaluations", "perplexity", "residual", "MACs, million", "work, %"]
    return markdown([*heads, "elements skipped"], lines)


def tradeoff(runs: Runs) -> Figure:
    """Perplexity against the work of a token's solve, a row a method and a column a variant.

    A colour is a start: a line through the thresholds, and a dotted one through dense solves that were stopped earlier.
    What streams is drawn in the colour of `previous`, whose dense solves it is compared with.
    """
    variants = list(dict.fromkeys(row["variant"] for of_seeds in runs.values() for row in of_seeds[0]))
    figure, panels = plotting.figure(4.5 * len(variants), 3.2 * len(runs), rows=len(runs), columns=len(variants))
    places = [(method, variant) for method in runs for variant in variants]
    for axes, (method, variant) in zip(panels, places, strict=True):
        of_variant = [[row for row in rows if row["variant"] == variant] for rows in runs[method]]
        for label in dict.fromkeys(line(row) for row in of_variant[0]):
            chosen = [[row for row in rows if line(row) == label] for rows in of_variant]
            columns = zip(*(numbers(rows, "macs_sparse") for rows in chosen), strict=True)
            work = [sum(of_seeds) / MEGA / len(chosen) for of_seeds in columns]
            losses = [numbers(rows, "perplexity") for rows in chosen]
            plotting.curve(axes, work, losses, label=label, marker=".", **look(chosen[0][0]))
        axes.set_title(f"{method}, {variant}")
        axes.set_xlabel("million MACs of a token's solve")
        axes.set_ylabel("perplexity")
        axes.legend(fontsize="x-small")
    return figure


def line(row: Row) -> str:
    """The curve of its panel that a row is a point of."""
    return f"{row['start']}" if "threshold" in row else f"{row['start']}: dense, stopped earlier"


def look(row: Row) -> dict[str, Any]:
    """Of its line."""
    known = ("cold", "token", "previous")
    return {
        "color": PALETTE[known.index(dense_start(row["start"]))],
        "linestyle": "-" if "threshold" in row else ":",
    }


REPORT = Report(name="sequence.delta_report", section="sequence", page=page)
