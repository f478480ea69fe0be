"""Report of the delta rule on flow networks: the work that it saves at a bounded loss, compared to fewer steps."""

from collections.abc import Sequence

from deq_core.experiment.study.measured import first_seeds, networks
from deq_core.experiment.study.report import Page, Report, Results
from deq_core.experiment.study.savings import (
    PARTS,
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
from deq_flow.reports.delta.figures import activity, still_changing

CASE = ("network", "set", "variant", "start", "threshold", "max_steps")
"""Columns that identify a case of a sweep."""
LOSSES = (1, 5)
"""Bounds of the loss for savings, per cent of the EPE of the solve with most steps at threshold 0."""
QUALITY = error("epe")
STARTS = ("stream", "reuse", "reuse_interpolated", "warm", "cold")
"""Starts in the order of tables; those that the rule is meant for come first."""

HOW = (
    "Work is the number of multiply-accumulates (MACs) of the solved map, kernel area included, in per cent of the "
    "longest dense solve on the same pairs. The context does not change within a solve, so the GRU's work on it is "
    "counted once per solve, also in the longest dense solve.\n\n"
    "At threshold 0 the rule changes no number. It skips only inputs that are exactly zero, such as those behind ReLUs "
    "and in borders, and inputs that did not change. `added by the rule` is what a threshold skips beyond that with "
    "the same number of steps. It also includes the steps that the tolerance of a variant saves; solves at threshold 0 "
    "have no tolerance. Solves with fewer steps are counted at threshold 0, too.\n\n"
    "By element is the work that hardware skips if it can skip single inputs. By pixel is the work that it skips if an "
    "input is skipped only together with all channels of its pixel, and by tile only together with all of 8x8 pixels."
)


def page(section: Section, results: Results) -> Page:
    """Means over seeds of every case, and in `savings` the work saved within each bound."""
    measured = networks(section, methods="methods", seeds="method_seeds", shipped="shipped")
    table, evaluations, layers = (results.rows("sweep", measured, name) for name in ("sweep", "evaluations", "layers"))
    rows = work_shares(table, ("network", "set", "split"))
    test = of_test(rows)
    found = sweep_savings(rows, ("network", "set"), QUALITY, LOSSES)
    maps = {name: results.arrays("sweep", each, "maps") for name, each in first_seeds(measured).items()}
    return Page(
        title="The delta rule on flow networks",
        metrics={**means(test), "savings": found},
        headline={
            case: {name: bounds[f"{LOSSES[0]} %"].get(name, 0.0) for name in ("saved", "fewer_saved")}
            for case, bounds in chosen(found).items()
        },
        parts=[
            f"Means ± standard deviation over seeds; a shipped checkpoint is one network and has none. {HOW}",
            repetition(test),
            "## Work saved within an allowed loss",
            "For each network, set and start: the variant and threshold of the rule, and the number of steps of any "
            "solver, that need the least work within the allowed loss. Both are chosen on validation pairs from other "
            "photographs and measured on the test pairs. Rows with `chosen on test` have no validation pairs. Losses "
            "are increases of the EPE over that of the best longest solve from the same start.",
            savings_table(chosen(found)),
            "## Every solver and reference",
            "The same for each solver and reference, with its own threshold.",
            savings_table(found),
            "## All cases",
            cases_table(test),
            "## What layers skip",
            "Shares of a layer's inputs, with the thresholds that are chosen for a loss of at most 1 %.",
            layers_table(of_test(layers), found),
        ],
        figures={
            "tradeoff": tradeoff(test, down="network", across=("set", "start"), quality=QUALITY, y="EPE increase"),
            "activity": activity(of_test(evaluations), rules(found)),
            "maps": still_changing(maps),
        },
        dpi=section.load(int, "dpi"),
    )


def of_test(rows: Sequence[Row]) -> list[Row]:
    """The rows of the test split."""
    return [row for row in rows if row["split"] == "test"]


def chosen(found: Savings) -> Savings:
    """The savings of the best rule of each network, set and start, with those of reused states first."""
    return best_variants(found, STARTS)


def repetition(rows: Sequence[Row]) -> str:
    """A sentence on the work saved by one pass over the context for each solve; other numbers exclude it."""
    said = []
    for (network,), own in grouped(rows, ("network",)).items():
        longest = max(own, key=lambda row: numbers([row], "max_steps"))
        dense, repeated = (numbers([longest], f"macs_{name}")[0] for name in ("dense", "repeated"))
        said.append(f"{network} {100 * (1 - dense / repeated):.1f} %")
    return f"Counting the context once instead of at every evaluation reduces the dense work by: {', '.join(said)}."


def means(rows: Sequence[Row]) -> dict[str, float]:
    """{"flow.network.set.variant.start.threshold.steps.quantity": mean over seeds}."""
    found: dict[str, float] = {}
    for (network, name, variant, start, threshold, steps), group in grouped(rows, CASE).items():
        for column in ("epe", "f1_all", "macs_saved", "release_saved"):
            if column in group[0]:
                place = f"flow.{network}.{name}.{variant}.{start}.{threshold:g}.{steps}.{column}"
                found[place] = statistic(numbers(group, column)).mean
    return found


def cases_table(rows: Sequence[Row]) -> str:
    """Table with one row for each network, set, variant, start, threshold and number of steps."""
    lines = []
    for (*names, threshold, steps), group in grouped(rows, CASE).items():
        left = [{"release": 100 * (1 - numbers([row], "release_saved")[0])} for row in group]
        lines.append(
            [
                *map(str, names),
                f"{steps} steps, threshold {threshold:g}",
                *(spread(group, "epe", "{:.3f}"), spread(group, "f1_all", "{:.1f}")),
                *(spread(group, column, "{:.1f}") for column in PARTS.values()),
                spread(left, "release", "{:.1f}"),
            ]
        )
    work = [f"work left by {part}, %" for part in PARTS]
    heads = ["network", "set", "solver", "start", "evaluation", "EPE, px", "F1, %", *work]
    return markdown([*heads, "work left by the release's count, % of its dense count"], lines)


def rules(found: Savings) -> dict[str, str]:
    """The rule of each network, set and start that is best within the smallest bound."""
    return {case: str(bounds[f"{LOSSES[0]} %"].get("way", "")) for case, bounds in chosen(found).items()}


def layers_table(layers: Sequence[Row], found: Savings) -> str:
    """Table by network, set, start and layer of the shares of its inputs that the best rule within 1 % skips."""
    of_case, lines = rules(found), []
    by = ("network", "set", "start", "variant", "threshold", "layer")
    for (network, name, start, variant, threshold, layer), group in grouped(layers, by).items():
        if of_case.get(f"{network}, {name}, {start}") == f"{variant}, {threshold:g}":
            shares = [spread(group, f"{part}s_skipped", "{:.2f}") for part in PARTS]
            lines.append([network, name, start, layer, *shares])
    return markdown(["network", "set", "start", "layer", *(f"by {part}" for part in PARTS)], lines)


REPORT = Report(name="delta.sweep_report", section="delta", page=page)
