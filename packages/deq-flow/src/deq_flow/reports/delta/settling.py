"""Percentiles of the steps to settle, as means over seeds."""

from collections.abc import Mapping, Sequence

from deq_core.experiment.tables import Row, cell, grouped, markdown, numbers, over_seeds

Settling = Mapping[str, Mapping[str, float]]
"""{name of the elements: {p5, p50, p95 (steps), unsettled (share), and their deviations _std}}."""


def settling(kind: str, distribution: Sequence[Row], by: Sequence[str]) -> Settling:
    """Percentiles of the steps to settle for good, and the unsettled share, by the columns `by`."""
    lasting = [row for row in distribution if row["criterion"] == "lasting"]
    return {
        ", ".join([kind, *map(str, key)]): over_seeds(
            [{name: numbers([row], name)[0] for name in ("p5", "p50", "p95", "unsettled")} for row in rows]
        )
        for key, rows in grouped(lasting, by).items()
    }


def settling_table(found: Settling) -> str:
    """Table with one row for each name."""
    lines = []
    for name, values in found.items():
        share = {f"never{key.removeprefix('unsettled')}": 100 * values[key] for key in values if "unsettled" in key}
        lines.append(
            [name, *(cell(values, part, "{:.1f}") for part in ("p5", "p50", "p95")), cell(share, "never", "{:.1f}")]
        )
    return markdown(["elements", "5 % settled by step", "50 % by step", "95 % by step", "never settled, %"], lines)
