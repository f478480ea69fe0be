"""How much work is saved at which loss of quality: by the delta rule, and by stopping earlier, its simplest peer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from deq_core.experiment.tables import Row, Statistic, grouped, markdown, numbers, statistic

Ways = Mapping[str, Sequence[Row]]
"""Rows of all seeds by what was done: a threshold, or a number of dense steps."""

Saved = dict[str, float | str]
"""By the rule `saved` (per cent), `saved_std` and `way`, its threshold; by fewer dense steps `fewer_saved`,
`fewer_saved_std` and `fewer_way`, their number. What is not within the bound is missing."""

Savings = dict[str, dict[str, Saved]]
"""{case: {bound: what was saved within it}}."""


@dataclass(frozen=True)
class Saving:
    """The cheapest way among some whose quality is within a bound."""

    way: str
    work: Statistic
    """What was saved of the work of the dense solve, in per cent."""


def by_way(rows: Sequence[Row], column: str) -> dict[str, list[Row]]:
    """Rows of all seeds by the value of a column."""
    return {f"{value:g}": group for (value,), group in grouped(rows, (column,)).items()}


def longest(dense: Ways, quality: str) -> float:
    """The mean quality of the dense solve of most steps, which losses are measured against."""
    return statistic(numbers(dense[max(dense, key=int)], quality)).mean


def cheapest(ways: Ways, *, quality: str, work: str, accepted: Callable[[float], bool]) -> Saving | None:
    """The way of least mean work whose mean quality is accepted; None where there is none.

    Args:
        ways: each with one row a seed; the choice is one for all seeds.
        quality: a column.
        work: a column, in per cent of the dense solve.
        accepted: whether a mean quality is good enough.
    """
    good = {
        way: statistic([100 - left for left in numbers(rows, work)])
        for way, rows in ways.items()
        if accepted(statistic(numbers(rows, quality)).mean)
    }
    if not good:
        return None
    way = max(good, key=lambda name: good[name].mean)
    return Saving(way, good[way])


def saved(rule: Saving | None, fewer: Saving | None) -> Saved:
    """What the rule saved within a bound, and what fewer dense steps did."""
    found: Saved = {}
    for prefix, chosen in (("", rule), ("fewer_", fewer)):
        if chosen is not None:
            found |= {f"{prefix}saved": chosen.work.mean, f"{prefix}way": chosen.way}
            if chosen.work.n > 1:
                found[f"{prefix}saved_std"] = chosen.work.std
    return found


def savings_table(found: Savings) -> str:
    """A row a case and bound."""
    lines = [
        [case, bound, *saved_cells(values, "", "threshold {}"), *saved_cells(values, "fewer_", "{} steps")]
        for case, bounds in found.items()
        for bound, values in bounds.items()
    ]
    return markdown(["subject", "loss up to", "saved by the rule, %", "at", "saved by fewer steps, %", "by"], lines)


def saved_cells(values: Mapping[str, float | str], prefix: str, form: str) -> list[str]:
    """The share, with its deviation where there is one, and how it was reached."""
    if f"{prefix}saved" not in values:
        return ["none within", ""]
    text = f"{values[f'{prefix}saved']:.1f}"
    if f"{prefix}saved_std" in values:
        text += f" ± {values[f'{prefix}saved_std']:.1f}"
    return [text, form.format(values[f"{prefix}way"])]


def at_most(reference: float, loss: float) -> Callable[[float], bool]:
    """Accepts errors up to a share `loss` above the reference."""
    return lambda error: error <= (1 + loss) * reference


def at_least(reference: float, loss: float) -> Callable[[float], bool]:
    """Accepts qualities down to `loss` below the reference."""
    return lambda value: value >= reference - loss
