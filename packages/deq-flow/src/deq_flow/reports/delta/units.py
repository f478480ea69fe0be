"""Tables that the reports of the sine and of the images share: quality and savings by threshold and steps."""

from collections.abc import Sequence

from deq_core.experiment.study.savings import Quality, Saved, sweep_savings
from deq_core.experiment.tables import Row, grouped, markdown, numbers, spread, statistic

PARTS = {"element": "work", "point": "work_pixels"}
"""Parts that can be skipped, each with the column of the remaining work."""
HOW = (
    "At threshold 0 the rule changes no number: it skips only inputs that are exactly zero or did not change. `added "
    "by the rule` is what a threshold skips beyond that. Solves with fewer steps are counted at threshold 0, too. By "
    "element, single inputs are skipped; by point, an input is skipped only together with all units of its point. "
    "Thresholds and numbers of steps are chosen on every other point and measured on the points between."
)


def savings(
    kind: str, rows: Sequence[Row], by: str, quality: Quality, losses: Sequence[float]
) -> dict[str, dict[str, Saved]]:
    """{"kind, name, rule": {bound: savings}} for each name in the column `by`."""
    found = sweep_savings(rows, (by,), quality, losses)
    return {f"{kind}, {case.removesuffix(', cold')}": bounds for case, bounds in found.items()}


def means(kind: str, rows: Sequence[Row], by: str, quality: str) -> dict[str, float]:
    """{"kind.name.rule.threshold.steps.quantity": mean over seeds} for each name in the column `by`."""
    return {
        f"{kind}.{name}.{variant}.{threshold:g}.{steps}.{column}": statistic(numbers(group, column)).mean
        for (name, variant, threshold, steps), group in by_case(rows, by).items()
        for column in (quality, "macs_saved", "release_saved")
    }


def quality_table(rows: Sequence[Row], by: str, quality: str, *, title: str, form: str) -> str:
    """Table by name in the column `by`, rule, threshold and number of steps: all steps, half and a quarter of them."""
    lines = []
    last = {key[0]: max(numbers(own, "max_steps")) for key, own in grouped(rows, (by,)).items()}
    for (name, variant, threshold, steps), group in by_case(rows, by).items():
        if steps in (last[name], last[name] // 2, last[name] // 4):
            release: list[Row] = [{"left": 100 * (1 - numbers([row], "release_saved")[0])} for row in group]
            lines.append(
                [
                    *(str(name), f"{variant}, {threshold:g}, {steps} steps", spread(group, quality, form)),
                    *(spread(group, column, "{:.1f}") for column in PARTS.values()),
                    spread(release, "left", "{:.1f}"),
                ]
            )
    work = [f"work left by {part}, %" for part in PARTS]
    return markdown(
        ["fit", "evaluation", title, *work, "work left by the release's count, % of its dense count"], lines
    )


def by_case(rows: Sequence[Row], by: str) -> dict[tuple, list[Row]]:
    """Rows of the test split by name, rule, threshold and number of steps."""
    return grouped([row for row in rows if row["split"] == "test"], (by, "variant", "threshold", "max_steps"))
