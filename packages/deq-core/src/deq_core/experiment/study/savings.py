"""Work that the delta rule saves at a given loss of quality, compared with a solve of fewer steps.

Savings at threshold 0, where the rule changes no number, are separate from those that a threshold adds. The work of
fewer steps is counted at threshold 0 too. Threshold and number of steps are chosen on validation data; savings and
losses are measured on test data. The number of steps chosen on validation data may miss the bound on test data, so the
smallest number of steps within the bound on test data (an oracle) is reported as well.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from deq_core.experiment.tables import Row, grouped, markdown, numbers, over_seeds, statistic

PARTS = {"element": "work", "pixel": "work_pixels", "tile": "work_tiles"}
"""{unit that hardware can skip, smallest first: column of the remaining work}, in per cent of the dense solve with most
steps. A pixel is all channels at a position, a tile 8x8 positions."""

Saved = dict[str, float | str]
"""Savings of one case within one bound on the loss, in per cent of the work of the dense solve with most steps.

Standard deviations over seeds have the suffix `_std`. Keys for the rule: `way` (the choice), `saved` (consisting of
`exact` at threshold 0 and `added` beyond), `saved_pixel`, `saved_tile`, `lost` on test data, and `validated`, the
savings on validation data. For fewer steps: `fewer_way`, `fewer_saved` and so on. For the fewest steps within the bound
on test data: `kept_way` and so on. `beyond` is the rule's lead in percentage points; `spared` is the lead in per cent
of the work of fewer steps, which is independent of the largest number of steps; also `beyond_pixel` and so on. Keys are
missing if nothing is within the bound."""

Savings = Mapping[str, Mapping[str, Saved]]
"""{case: {bound on the loss: savings}}."""


@dataclass(frozen=True)
class Quality:
    """A measure of a solve's quality, and of its loss."""

    column: str
    """Column of the quality."""
    lost: Callable[[float, float], float]
    """Loss of the second quality against the first, that of the dense solve."""
    unit: str
    """Unit of losses."""

    def of(self, reference: Sequence[Row], rows: Sequence[Row]) -> float:
        """Loss of the mean over `rows`, which are of all seeds, against that over `reference`."""
        return self.lost(*(statistic(numbers(each, self.column)).mean for each in (reference, rows)))


def error(column: str) -> Quality:
    """Quality by an error, lower is better; losses are in per cent."""
    return Quality(column, lambda reference, value: 100 * (value / reference - 1), "%")


def decibels(column: str) -> Quality:
    """Quality in dB, higher is better; losses are in dB."""
    return Quality(column, lambda reference, value: reference - value, "dB")


@dataclass(frozen=True)
class Way:
    """One way to solve: rows of all seeds, with the columns of `PARTS` and of the quality."""

    name: str
    test: Sequence[Row]
    validation: Sequence[Row] | None = None
    """Rows for the choice; None chooses by the test rows."""

    @property
    def chosen_by(self) -> Sequence[Row]:
        """Validation rows if there are any, otherwise test rows."""
        return self.test if self.validation is None else self.validation


def cheapest(
    ways: Sequence[Way], reference: Way, quality: Quality, bound: float, *, on_test: bool = False
) -> Way | None:
    """The way of least work that loses at most `bound` against `reference`; None if there is none.

    Both are means over seeds on validation data, or with `on_test` on test data, for the best possible choice.
    """
    rows = {way.name: way.test if on_test else way.chosen_by for way in ways}
    wanted = reference.test if on_test else reference.chosen_by
    good = [way for way in ways if quality.of(wanted, rows[way.name]) <= bound]
    return min(good, key=lambda way: statistic(numbers(rows[way.name], "work")).mean, default=None)


def saved(
    rule: Way | None, fewer: Way | None, kept: Way | None, *, exact: Way, reference: Way, quality: Quality
) -> Saved:
    """Savings of the rule and of fewer steps. A choice is None if nothing is within the bound.

    Args:
        rule: solve with the chosen threshold.
        fewer: solve with the chosen number of steps.
        kept: solve with the fewest steps within the bound on test data.
        exact: solve by the rule's solver at threshold 0.
        reference: solve that losses are measured against.
        quality: measure of quality.
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
    """Remaining work on test data for each seed, under "" (elements), "_pixel" and "_tile", if known."""
    known = {part: column for part, column in PARTS.items() if column in way.test[0]}
    return {"" if part == "element" else f"_{part}": numbers(way.test, column) for part, column in known.items()}


def differences(left: Sequence[float], right: Sequence[float]) -> list[float]:
    """Differences for each seed."""
    return [one - other for one, other in zip(left, right, strict=True)]


def spread(name: str, values: Sequence[float]) -> dict[str, float]:
    """Mean and, for several seeds, standard deviation."""
    return over_seeds([{name: value} for value in values])


def work_shares(table: Sequence[Row], by: Sequence[str]) -> list[Row]:
    """Rows with the columns of `PARTS`, relative to the longest dense solve among rows that agree in `by`."""
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
    """Savings of thresholds and of fewer steps for every case (values of the columns `by`), variant and initialisation.

    The rule of a variant is compared with fewer steps of any solver from the same initialisation. Losses are measured
    against the solve with most steps at threshold 0, by the solver for which its quality is best.

    Args:
        rows: rows of a sweep, with the columns of `PARTS` and `split`, "test" or "validation".
        by: columns that define a case, such as network and set.
        quality: measure of quality.
        losses: bounds on the loss, in its unit.
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
    """Rows of both splits as a `Way`."""
    splits = {split: own for (split,), own in grouped(rows, ("split",)).items()}
    return Way(name, splits["test"], splits.get("validation"))


def best_variants(found: Savings, starts: Sequence[str]) -> dict[str, dict[str, Saved]]:
    """For each case, initialisation and bound, the variant that saved most on validation data.

    Sorted by the first part of the case's name, then in the order of `starts`.
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
    """Savings of the rule on the data it was chosen on; minus infinity if nothing is within the bound."""
    return float(values.get("validated", values.get("saved", -math.inf)))


def savings_table(found: Savings, *, parts: Sequence[str] = tuple(PARTS)) -> str:
    """Table of savings by case and bound; `parts` names the units that can be skipped.

    Without validation data, the row is marked "chosen on test"; then the chosen steps are also the fewest on test data.
    """
    lines = [
        [
            *(case, f"{bound}, chosen on test" if chosen_here(values) else bound),
            *(str(values.get("way", "none")), together(values, "saved")),
            *(number(values, name) for name in ("exact", "added", "lost")),
            *(str(values.get("fewer_way", "none")), together(values, "fewer_saved")),
            *(number(values, "fewer_lost"), together(values, "beyond"), together(values, "spared")),
            *(str(values.get(f"{kept}way", "none")), together(values, f"{kept}saved")),
        ]
        for case, bounds in found.items()
        for bound, values in bounds.items()
        for kept in ("kept_" if "kept_way" in values or "fewer_validated" in values else "fewer_",)
    ]
    by = f"by {' / '.join(parts)}, %"
    heads = ["case", "allowed loss", "rule, threshold", f"skipped {by}", "at threshold 0", "added by the rule"]
    peers = ["loss on test", "fewer steps", f"skipped {by}", "loss on test", "rule minus fewer steps, points"]
    ends = ["difference, % of the work left by fewer steps", "fewest steps within the loss on test", f"skipped {by}"]
    return markdown([*heads, *peers, *ends], lines)


def chosen_here(values: Saved) -> bool:
    """Whether the rule or the number of steps was chosen on test data."""
    return any(f"{prefix}way" in values and f"{prefix}validated" not in values for prefix in ("", "fewer_"))


def overview(found: Savings) -> str:
    """A shorter table of savings, for a summary."""
    lines = [
        [
            *(case, bound, together(values, "saved"), number(values, "exact"), number(values, "lost")),
            *(together(values, "fewer_saved"), number(values, "fewer_lost"), together(values, "kept_saved")),
        ]
        for case, bounds in found.items()
        for bound, values in bounds.items()
    ]
    peers = ("fewer steps: skipped, %", "loss on test", "fewest steps within the loss on test: skipped, %")
    heads = ["case", "allowed loss", f"rule: skipped by {' / '.join(PARTS)}, %", "at threshold 0", "loss on test"]
    return markdown([*heads, *peers], lines, names=2)


def together(values: Saved, name: str) -> str:
    """A quantity by element, pixel and tile: `71.3 ± 0.4 / 40.2 / 12.9`."""
    shares = [number(values, f"{name}{part}", deviation=not part) for part in ("", "_pixel", "_tile")]
    return " / ".join(share for share in shares if share)


def number(values: Saved, name: str, *, deviation: bool = True) -> str:
    """A number such as `71.3 ± 0.4`, empty if unknown."""
    if name not in values:
        return ""
    text = f"{values[name]:.1f}"
    return f"{text} ± {values[f'{name}_std']:.1f}" if deviation and f"{name}_std" in values else text
