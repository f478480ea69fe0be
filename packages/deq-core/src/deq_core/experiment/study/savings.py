"""How much work the delta rule saves at which loss of quality, and its simplest peer, a solve of fewer steps.

What is saved at threshold 0, where the rule changes no number, stands apart from what a threshold adds; the peer's work
is counted at threshold 0 too. Which threshold and how many steps are chosen by what was measured for validation, and
what they save and cost is told of the test. A number of steps that was enough there may not be on the test: beside it
stand the fewest steps that are, which nobody knows beforehand.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from deq_core.experiment.tables import Row, grouped, markdown, numbers, over_seeds, statistic

PARTS = {"element": "work", "pixel": "work_pixels", "tile": "work_tiles"}
"""What hardware may be able to skip, the smallest first: columns of the work that it then has left, in per cent of the
dense solve of most steps. A pixel is all channels at a position, a tile 8x8 positions."""

Saved = dict[str, float | str]
"""Of one case within one bound, in per cent of the work of the dense solve of most steps, with deviations over seeds
as `_std`. By the rule: `way` (what was chosen), `saved`, of that `exact` at threshold 0 and `added` beyond,
`saved_pixel` and `saved_tile`, `lost` on the test, `validated`, what was saved where it was chosen. By fewer steps
likewise `fewer_way`, `fewer_saved` and so on; by the fewest steps within the bound on the test itself `kept_way` and so
on. `beyond`: points that the rule saves more, and `spared`, that in per cent
of the work of fewer steps, which does not depend on how many the most steps are; also `beyond_pixel` and so on. What
nothing within the bound gives is missing."""

Savings = Mapping[str, Mapping[str, Saved]]
"""{case: {bound: what was saved within it}}."""


@dataclass(frozen=True)
class Quality:
    """A column that says how good a solve is, and what it is to lose of it."""

    column: str
    lost: Callable[[float, float], float]
    """Of the dense solve's quality and another: how much worse that is."""
    unit: str

    def of(self, reference: Sequence[Row], rows: Sequence[Row]) -> float:
        """What rows of all seeds lose in the mean."""
        return self.lost(*(statistic(numbers(each, self.column)).mean for each in (reference, rows)))


def error(column: str) -> Quality:
    """A column that should be small, whose losses are in per cent of it."""
    return Quality(column, lambda reference, value: 100 * (value / reference - 1), "%")


def decibels(column: str) -> Quality:
    """A column in dB that should be large."""
    return Quality(column, lambda reference, value: reference - value, "dB")


@dataclass(frozen=True)
class Way:
    """One way to solve: rows of all seeds, with the columns of `PARTS`, and one of its quality."""

    name: str
    test: Sequence[Row]
    validation: Sequence[Row] | None = None
    """What it is chosen by; None is the test itself."""

    @property
    def chosen_by(self) -> Sequence[Row]:
        """Rows of validation where there are any."""
        return self.test if self.validation is None else self.validation


def cheapest(
    ways: Sequence[Way], reference: Way, quality: Quality, bound: float, *, on_test: bool = False
) -> Way | None:
    """The way of least work that loses at most `bound` against `reference`, both in the mean over seeds of validation.

    None where there is none. With `on_test` both are of the test, to say what could have been chosen.
    """
    rows = {way.name: way.test if on_test else way.chosen_by for way in ways}
    wanted = reference.test if on_test else reference.chosen_by
    good = [way for way in ways if quality.of(wanted, rows[way.name]) <= bound]
    return min(good, key=lambda way: statistic(numbers(rows[way.name], "work")).mean, default=None)


def saved(
    rule: Way | None, fewer: Way | None, kept: Way | None, *, exact: Way, reference: Way, quality: Quality
) -> Saved:
    """What the rule saves, and what fewer steps do.

    Args:
        rule: the chosen threshold, None where none is within the bound.
        fewer: the chosen number of steps.
        kept: the fewest steps within the bound on the test.
        exact: the rule's own solve at threshold 0.
        reference: what losses are measured against.
        quality: what is lost.
    """
    found: Saved = {}
    for prefix, way in (("", rule), ("fewer_", fewer), ("kept_", kept)):
        if way is None:
            continue
        found |= {f"{prefix}way": way.name, f"{prefix}lost": quality.of(reference.test, way.test)}
        for part, left in of_parts(way).items():
            found |= spread(f"{prefix}saved{part}", [100 - each for each in left])
        if way.validation is not None:
            found[f"{prefix}validated"] = 100 - statistic(numbers(way.validation, "work")).mean
    if rule is not None:
        base = numbers(exact.test, "work")
        found |= spread("exact", [100 - left for left in base])
        found |= spread("added", differences(base, numbers(rule.test, "work")))
    if rule is not None and fewer is not None:
        peers = of_parts(fewer)
        for part, left in of_parts(rule).items():
            found |= spread(f"beyond{part}", differences(peers[part], left))
            shares = [100 * (1 - own / other) for own, other in zip(left, peers[part], strict=True)]
            found |= spread(f"spared{part}", shares)
    return found


def of_parts(way: Way) -> dict[str, list[float]]:
    """Work left on the test, a number a seed, by "" (elements), "_pixel" and "_tile", as far as it is known."""
    known = {part: column for part, column in PARTS.items() if column in way.test[0]}
    return {"" if part == "element" else f"_{part}": numbers(way.test, column) for part, column in known.items()}


def differences(left: Sequence[float], right: Sequence[float]) -> list[float]:
    """Seed by seed."""
    return [one - other for one, other in zip(left, right, strict=True)]


def spread(name: str, values: Sequence[float]) -> dict[str, float]:
    """Mean and, of several seeds, deviation."""
    return over_seeds([{name: value} for value in values])


def work_shares(table: Sequence[Row], by: Sequence[str]) -> list[Row]:
    """Rows with the columns of `PARTS`, of those of a sweep that agree in `by`: of its longest dense solve's MACs."""
    found: list[Row] = []
    for rows in grouped(table, by).values():
        whole = max(numbers(rows, "macs_dense"))
        for row in rows:
            columns = {"work": "macs_sparse", "work_pixels": "macs_pixels", "work_tiles": "macs_tiles"}
            known = {name: 100 * numbers([row], macs)[0] / whole for name, macs in columns.items() if macs in row}
            found.append({**row, **known})
    return found


def sweep_savings(
    rows: Sequence[Row], by: Sequence[str], quality: Quality, losses: Sequence[float]
) -> dict[str, dict[str, Saved]]:
    """What thresholds and fewer steps save, of every case in the columns `by`, variant and start.

    The rule of a variant is compared with fewer steps of any solver from the same start. Losses are measured against
    the solve of most steps at threshold 0 of the solver with which that is best.

    Args:
        rows: of a sweep, with the columns of `PARTS` and of the split, "test" or "validation".
        by: columns, such as the network and the set.
        quality: what may be lost.
        losses: how much of it at most, in its unit.
    """
    found: dict[str, dict[str, Saved]] = {}
    for (*case, start), own in grouped(rows, (*by, "start")).items():
        several = len(grouped(own, ("solver",))) > 1
        exact = {
            (solver, steps): way(f"{steps} steps, {solver}" if several else f"{steps} steps", group)
            for (solver, threshold, steps), group in grouped(own, ("solver", "threshold", "max_steps")).items()
            if threshold == 0
        }
        last = max(steps for _, steps in exact)
        longest = [each for (_, steps), each in exact.items() if steps == last]
        reference = min(longest, key=lambda each: quality.of(longest[0].chosen_by, each.chosen_by))
        above = grouped([row for row in own if row["threshold"] != 0], ("variant", "solver", "max_steps"))
        for (variant, solver, steps), of_variant in above.items():
            base = exact[solver, steps]
            ways = [way(f"{variant}, {size:g}", each) for (size,), each in grouped(of_variant, ("threshold",)).items()]
            bounds = {}
            for loss in losses:
                rule = cheapest([base, *ways], reference, quality, loss)
                fewer = cheapest(list(exact.values()), reference, quality, loss)
                kept = cheapest(list(exact.values()), reference, quality, loss, on_test=True)
                found_here = saved(rule, fewer, kept, exact=base, reference=reference, quality=quality)
                bounds[f"{loss:g} {quality.unit}"] = found_here
            found[", ".join(map(str, (*case, variant, start)))] = bounds
    return found


def way(name: str, rows: Sequence[Row]) -> Way:
    """Rows of both splits as what is chosen among."""
    splits = {split: own for (split,), own in grouped(rows, ("split",)).items()}
    return Way(name, splits["test"], splits.get("validation"))


def best_variants(found: Savings, starts: Sequence[str]) -> dict[str, dict[str, Saved]]:
    """Of the variants of each case and start, and of each bound, the one that saved most where it was chosen.

    In the order of the first part of their names, then of `starts`.
    """
    groups: dict[str, dict[str, Saved]] = {}
    for case, bounds in found.items():
        *parts, _, start = case.split(", ")
        own = groups.setdefault(", ".join([*parts, start]), {})
        for bound, values in bounds.items():
            if bound not in own or validated(values) > validated(own[bound]):
                own[bound] = values

    def place(case: str) -> tuple[str, int, str]:
        first, *_, start = case.split(", ")
        return first, starts.index(start), case

    return {case: groups[case] for case in sorted(groups, key=place)}


def validated(values: Saved) -> float:
    """What the rule saves where it was chosen; less than anything where nothing is within the bound."""
    return float(values.get("validated", values.get("saved", -math.inf)))


def savings_table(found: Savings, *, parts: Sequence[str] = tuple(PARTS)) -> str:
    """A row a case and bound; `parts` names what can be skipped. What had no validation is said to be chosen here: the
    fewer steps that were are the fewest on the test.
    """
    lines = [
        [
            *(case, f"{bound}, chosen here" if chosen_here(values) else bound),
            *(str(values.get("way", "none within")), together(values, "saved")),
            *(number(values, name) for name in ("exact", "added", "lost")),
            *(str(values.get("fewer_way", "none within")), together(values, "fewer_saved")),
            *(number(values, "fewer_lost"), together(values, "beyond"), together(values, "spared")),
            *(str(values.get(f"{kept}way", "none within")), together(values, f"{kept}saved")),
        ]
        for case, bounds in found.items()
        for bound, values in bounds.items()
        for kept in ("kept_" if "kept_way" in values or "fewer_validated" in values else "fewer_",)
    ]
    by = f"by {' / '.join(parts)}, %"
    heads = ["case", "loss up to", "rule", f"skipped {by}", "at threshold 0", "added by the rule", "loss on test"]
    peers = ["fewer steps", f"skipped {by}", "loss on test", "lead of the rule, points", "lead, % of the steps' work"]
    return markdown([*heads, *peers, "fewest steps within the loss on the test", f"skipped {by}"], lines)


def chosen_here(values: Saved) -> bool:
    """Whether the rule, or the number of steps, was chosen on the test itself."""
    return any(f"{prefix}way" in values and f"{prefix}validated" not in values for prefix in ("", "fewer_"))


def overview(found: Savings) -> str:
    """The same in short, for a first page."""
    lines = [
        [
            *(case, bound, together(values, "saved"), number(values, "exact"), number(values, "lost")),
            *(together(values, "fewer_saved"), number(values, "fewer_lost"), together(values, "kept_saved")),
        ]
        for case, bounds in found.items()
        for bound, values in bounds.items()
    ]
    peers = ("fewer steps: skipped, %", "loss on test", "fewest steps within the loss on the test: skipped, %")
    heads = ["case", "loss up to", f"rule: skipped by {' / '.join(PARTS)}, %", "at threshold 0", "loss on test"]
    return markdown([*heads, *peers], lines, names=2)


def together(values: Saved, name: str) -> str:
    """`71.3 ± 0.4 / 40.2 / 12.9`: a quantity by element, pixel and tile."""
    shares = [number(values, f"{name}{part}", deviation=not part) for part in ("", "_pixel", "_tile")]
    return " / ".join(share for share in shares if share)


def number(values: Saved, name: str, *, deviation: bool = True) -> str:
    """`71.3 ± 0.4`, or nothing where it is not known."""
    if name not in values:
        return ""
    text = f"{values[name]:.1f}"
    return f"{text} ± {values[f'{name}_std']:.1f}" if deviation and f"{name}_std" in values else text
