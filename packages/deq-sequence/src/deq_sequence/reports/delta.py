"""The report of the delta study: savings against perplexity, compared with stopping earlier."""

from collections.abc import Sequence

from deq_core.experiment.config import Name, Seed
from deq_core.experiment.config.plot import Plot
from deq_core.experiment.study.report import Page, Report, Results
from deq_core.experiment.study.savings import (
    Savings,
    best_variants,
    error,
    savings_table,
    sweep_savings,
    work_shares,
)
from deq_core.experiment.study.stage import Section
from deq_core.experiment.study.tradeoff import tradeoff
from deq_core.experiment.tables import Row, grouped, markdown, numbers, spread, statistic
from deq_sequence.studies.delta import Delta, Trained

LOSSES = (1, 5)
"""Bounds on the increase in perplexity, per cent of that with most steps at threshold 0, within which to save."""
QUALITY = error("perplexity")
STARTS = ("stream", "previous", "token", "cold")
"""Starts in the order of the tables."""
PARTS = {"element": "work", "position": "work_pixels"}
"""Units that can be skipped, with the column of the remaining work."""
CASE = ("method", "variant", "start", "threshold", "max_steps")
MEGA = 1e6


def page(section: Section, results: Results) -> Page:
    """The page, with means over seeds of all cases, and the largest savings within each bound."""
    methods, seeds = section.load(dict[Name, Delta], "delta"), section.load(tuple[Seed, ...], "seeds")
    cases = [Trained(method, seed) for method in methods for seed in seeds]
    rows = work_shares(results.rows("delta", cases, "sweep"), ("method", "split"))
    test = [row for row in rows if row["split"] == "test"]
    found = sweep_savings(rows, ("method",), QUALITY, LOSSES)
    return Page(
        title="The delta rule on language models",
        metrics={"means": means(test), "savings": found},
        parts=[
            "Means ± standard deviation over seeds. Work is the number of multiply-accumulates (MACs) of the cell in "
            "the solve of a token, in per cent of the longest dense solve. It includes the layers and attention; the "
            "products of attention stay dense under the rule.",
            "At threshold 0 the rule changes no number: it skips only inputs that are exactly zero, such as those "
            "behind ReLUs, and inputs that did not change. `added by the rule` is what a threshold skips beyond that. "
            "Solves with fewer steps are counted at threshold 0, too. By element is the work that hardware skips if "
            "it can skip single inputs. By position is the work that it skips if an input is skipped only together "
            "with all channels of its token.",
            "## Work saved within an allowed loss",
            "For each method and start: the solver and threshold of the rule, and the number of steps of any solver, "
            "that need the least work within the allowed loss. Both are chosen on the validation text and measured on "
            "the test text. Losses are increases of the perplexity over that of the best longest solve from the same "
            "start.",
            table(best_variants(found, STARTS)),
            "## Every solver",
            "The same for each solver, with its own threshold.",
            table(found),
            "## All cases",
            cases_table(test),
        ],
        figures={
            "tradeoff": tradeoff(test, down="method", across=("start",), quality=QUALITY, y="perplexity increase")
        },
        dpi=section.load(Plot, "plot").dpi,
    )


def table(found: Savings) -> str:
    """Table of savings, with one row per case and bound."""
    return savings_table(found, parts=tuple(PARTS))


def chosen_table(found: Savings) -> str:
    """Table of the best variant of each method and start."""
    return table(best_variants(found, STARTS))


def means(rows: Sequence[Row]) -> dict[str, float]:
    """{"method.variant.start.threshold.steps.quantity": mean over seeds} of perplexity, residual and work."""
    return {
        f"{method}.{variant}.{start}.{threshold:g}.{steps}.{key}": statistic(numbers(of_seeds, key)).mean
        for (method, variant, start, threshold, steps), of_seeds in grouped(rows, CASE).items()
        for key in ("perplexity", "residual", "work")
    }


def cases_table(rows: Sequence[Row]) -> str:
    """Table with one row per method and run."""
    lines = []
    for (method, variant, start, threshold, steps), of_seeds in grouped(rows, CASE).items():
        million = [{"million": work / MEGA} for work in numbers(of_seeds, "macs_sparse")]
        lines.append(
            [
                *(str(method), str(variant), start, f"{steps} steps, threshold {threshold:g}"),
                *(spread(of_seeds, "perplexity", "{:.3f}"), spread(of_seeds, "residual", "{:.1e}")),
                spread(million, "million", "{:.2f}"),
                *(spread(of_seeds, column, "{:.1f}") for column in PARTS.values()),
            ]
        )
    work = [f"work left by {part}, %" for part in PARTS]
    heads = ["method", "solver", "start", "evaluation", "perplexity", "residual", "MACs, million", *work]
    return markdown(heads, lines)


REPORT = Report(name="sequence.delta_report", section="sequence", page=page)
