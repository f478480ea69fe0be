"""What the reports of the sine and of the images have in common: a quality of every case, by the rule and densely."""

from collections.abc import Sequence

from deq_core.experiment.tables import Row, grouped, markdown, numbers, spread, statistic


def means(kind: str, steps: Sequence[Row], thresholds: Sequence[Row], by: str, quality: str) -> dict[str, float]:
    """{"kind.name.rule.threshold.quantity": mean over seeds} for every name in the column `by`."""
    found: dict[str, float] = {}
    under_rule = grouped(thresholds, (by,))
    for (name,), rows in grouped(steps, (by,)).items():
        last = [row for row in rows if row["step"] == max(numbers(rows, "step"))]
        found[f"{kind}.{name}.dense.{quality}"] = statistic(numbers(last, quality)).mean
        for (rule, threshold), group in grouped(under_rule[(name,)], ("rule", "threshold")).items():
            for column in (quality, "macs_saved", "release_saved"):
                found[f"{kind}.{name}.{rule}.{threshold:g}.{column}"] = statistic(numbers(group, column)).mean
    return found


def quality_table(
    steps: Sequence[Row], thresholds: Sequence[Row], by: str, quality: str, *, title: str, form: str
) -> str:
    """A row a name in the column `by`, rule and threshold; the dense solve, also with fewer steps, first."""
    lines = []
    under_rule = grouped(thresholds, (by,))
    for (name,), rows in grouped(steps, (by,)).items():
        count = int(max(numbers(rows, "step")))
        for step in sorted({count, count // 2, count // 4} - {0}, reverse=True):
            chosen = [row for row in rows if row["step"] == step]
            share = f"{100 * step / count:.1f}"
            lines.append([str(name), f"dense, {step} steps", spread(chosen, quality, form), share, ""])
        for (rule, threshold), group in grouped(under_rule[(name,)], ("rule", "threshold")).items():
            left: list[Row] = [
                {column: 100 * (1 - numbers([row], f"{column}_saved")[0]) for column in ("macs", "release")}
                for row in group
            ]
            cells = [spread(group, quality, form), spread(left, "macs", "{:.1f}"), spread(left, "release", "{:.1f}")]
            lines.append([str(name), f"{rule}, {threshold:g}", *cells])
    return markdown(["fit", "evaluation", title, "MACs, %", "release's count, %"], lines)
