"""How much work is saved at which loss of quality: by the delta rule, and by stopping earlier, its simplest peer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from deq_core.experiment.tables import Row, Statistic, grouped, numbers, statistic
from deq_flow.delta_tables import DeltaTables, rows, shared_of

Groups = Mapping[str, Sequence[Row]]
"""Rows of all seeds by what was done: a threshold, or a number of dense steps."""
LOSSES = {"flow": (0.01, 0.05), "image": (0.1, 0.5)}
"""Bounds that savings are given for: shares of the dense solve's EPE, and dB of its PSNR."""

Savings = dict[str, dict[str, dict[str, float | str]]]
"""{subject: {bound: values}}: by the rule saved (per cent), saved_std and way, its threshold; by fewer dense steps
fewer_saved, fewer_saved_std and fewer_way, their number. What is not within the bound is missing."""


@dataclass(frozen=True)
class Saving:
    """The cheapest way among some whose quality is within a bound."""

    way: str
    saved: Statistic
    """Share of the work of the dense solve, in per cent."""
    quality: Statistic


def savings(tables: DeltaTables) -> Savings:
    """What the rule and fewer dense steps save, for every network, set, solver and start, and every representation."""
    found: Savings = {}
    for network, folders in tables.sweep.items():
        table = shared_of(rows(folders, "sweep"))
        under_rule = [row for row in table if "threshold" in row]
        densely = grouped([row for row in table if "threshold" not in row], ("set", "solver", "start"))
        for (name, solver, start, variant), own in grouped(under_rule, ("set", "solver", "start", "variant")).items():
            sparse = by_way(own, "threshold")
            dense = by_way(densely[name, solver, "reuse" if start == "stream" else start], "max_steps")
            longest = statistic(numbers(dense[max(dense, key=int)], "epe")).mean
            found[f"{network}, {name}, {variant}, {start}"] = {
                f"{100 * loss:g} %": saving(
                    cheapest(sparse, quality="epe", work="work", accepted=at_most(longest, loss)),
                    cheapest(dense, quality="epe", work="hoisted", accepted=at_most(longest, loss)),
                )
                for loss in LOSSES["flow"]
            }
    for name, folders in tables.images.items():
        steps = rows(folders, "steps")
        count = max(numbers(steps, "step"))
        dense = by_way([{**row, "work": 100 * numbers([row], "step")[0] / count} for row in steps], "step")
        longest = statistic(numbers(dense[max(dense, key=int)], "psnr")).mean
        for rule, own in grouped(rows(folders, "thresholds"), ("rule",)).items():
            left = [{**row, "work": 100 * (1 - numbers([row], "macs_saved")[0])} for row in own]
            found[f"image, {name}, {rule[0]}"] = {
                f"{loss:g} dB": saving(
                    cheapest(by_way(left, "threshold"), quality="psnr", work="work", accepted=at_least(longest, loss)),
                    cheapest(dense, quality="psnr", work="work", accepted=at_least(longest, loss)),
                )
                for loss in LOSSES["image"]
            }
    return found


def by_way(table: Sequence[Row], column: str) -> dict[str, list[Row]]:
    """Rows of all seeds by the value of a column."""
    return {f"{key[0]:g}": group for key, group in grouped(table, (column,)).items()}


def saving(rule: Saving | None, fewer: Saving | None) -> dict[str, float | str]:
    """What the rule saved within a bound, and what fewer dense steps did; a key is missing where nothing was within."""
    found: dict[str, float | str] = {}
    for prefix, chosen in (("", rule), ("fewer_", fewer)):
        if chosen is not None:
            found |= {f"{prefix}saved": chosen.saved.mean, f"{prefix}way": chosen.way}
            if chosen.saved.n > 1:
                found[f"{prefix}saved_std"] = chosen.saved.std
    return found


def cheapest(groups: Groups, *, quality: str, work: str, accepted: Callable[[float], bool]) -> Saving | None:
    """The group of least mean work whose mean quality is accepted; None where there is none.

    Args:
        groups: each with one row a seed; the choice is one for all seeds.
        quality, work: columns; work is in per cent of the dense solve.
        accepted: whether a mean quality is good enough.
    """
    found = {
        way: (statistic(numbers(rows, quality)), statistic([100 - left for left in numbers(rows, work)]))
        for way, rows in groups.items()
    }
    good = {way: values for way, values in found.items() if accepted(values[0].mean)}
    if not good:
        return None
    way = max(good, key=lambda name: good[name][1].mean)
    return Saving(way, good[way][1], good[way][0])


def at_most(reference: float, loss: float) -> Callable[[float], bool]:
    """Accepts errors up to a share `loss` above the reference."""
    return lambda error: error <= (1 + loss) * reference


def at_least(reference: float, loss: float) -> Callable[[float], bool]:
    """Accepts qualities down to `loss` below the reference."""
    return lambda value: value >= reference - loss
