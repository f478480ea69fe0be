"""The report of the delta rule on flow networks: what it saves at which loss, and what stopping earlier would."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any, Literal

from einops import rearrange

from deq_core.experiment.study import plotting
from deq_core.experiment.study.plotting import Figure
from deq_core.experiment.study.report import Page, Report, Results
from deq_core.experiment.study.stage import Section
from deq_core.experiment.tables import Row, aggregate, grouped, markdown, numbers, spread, statistic
from deq_flow.reports.panels import by_seed, quality_by_work
from deq_flow.reports.savings import Savings, at_most, by_way, cheapest, longest, saved, savings_table
from deq_flow.studies.measured import first_seeds, networks

CASE = ("network", "set", "variant", "start", "threshold", "max_steps")
"""The columns that tell the cases of a sweep apart; without a threshold a solve was dense."""
LOSSES = (0.01, 0.05)
"""Bounds that savings are given for: shares of the dense solve's EPE."""
SHOWN = (2, 3, 5, 8, 12)
"""Evaluations whose maps are shown, where a solve has them."""


def page(section: Section, results: Results) -> Page:
    """Means over seeds of every case, and under `savings` what was saved within which loss."""
    measured = networks(section, methods="methods", seeds="method_seeds", shipped="shipped")
    table, evaluations, layers = (results.rows("sweep", measured, name) for name in ("sweep", "evaluations", "layers"))
    rows = with_work(table)
    found = savings(rows)
    maps = {name: results.arrays("sweep", each, "maps") for name, each in first_seeds(measured).items()}
    return Page(
        title="The delta rule on flow networks",
        metrics={**means(rows), "savings": found},
        parts=[
            "Means ± standard deviation over seeds; a shipped checkpoint is one network and has none. MACs: "
            "multiply-accumulates of the layers of the solved map, kernel area included. Release's count: as DeltaDEQ "
            "counts, without kernel area. Work is given in per cent of the longest dense solve.",
            "## Work saved within a loss",
            "Of the longest dense solve's MACs: by the largest threshold whose mean error is within the bound of the "
            "dense solve's from the same start, and by a dense solve with fewer steps within that bound.",
            savings_table(found),
            "## All cases",
            cases_table(rows),
            "Dense rows treat the context once a solve (`hoisted`), as this package's own dense path does.",
        ],
        figures={
            "tradeoff": tradeoff(rows, "work"),
            "release": tradeoff(rows, "release"),
            "activity": activity(evaluations, layers),
            "maps": still_changing(maps),
        },
        dpi=section.load(int, "dpi"),
    )


def with_work(table: Sequence[Row]) -> list[Row]:
    """Rows with their work as a share, in per cent, of the longest dense solve's of their network and set.

    `work` by the true count, `hoisted` likewise for dense solves that treat the context once, and `release` by the
    release's count, whose dense solve is that of the row itself.
    """
    found = []
    for rows in grouped(table, ("network", "set")).values():
        whole = max(numbers(rows, "macs_dense"))
        for row in rows:
            hoisted, sparse = (numbers([row], f"macs_{name}")[0] for name in ("hoisted", "sparse"))
            more: Row = {"work": 100 * sparse / whole, "hoisted": 100 * hoisted / whole}
            if "release_saved" in row:
                more["release"] = 100 * (1 - numbers([row], "release_saved")[0])
            found.append({**row, **more})
    return found


def savings(rows: Sequence[Row]) -> Savings:
    """What the rule and fewer dense steps save, for every network, set, solver and start."""
    found: Savings = {}
    by = ("network", "set", "solver", "start")
    densely = grouped([row for row in rows if "threshold" not in row], by)
    under_rule = grouped([row for row in rows if "threshold" in row], (*by, "variant"))
    for (network, name, solver, start, variant), own in under_rule.items():
        sparse = by_way(own, "threshold")
        dense = by_way(densely[network, name, solver, "reuse" if start == "stream" else start], "max_steps")
        reference = longest(dense, "epe")
        found[f"{network}, {name}, {variant}, {start}"] = {
            f"{100 * loss:g} %": saved(
                cheapest(sparse, quality="epe", work="work", accepted=at_most(reference, loss)),
                cheapest(dense, quality="epe", work="hoisted", accepted=at_most(reference, loss)),
            )
            for loss in LOSSES
        }
    return found


def means(rows: Sequence[Row]) -> dict[str, float]:
    """{"flow.network.set.variant.start.threshold.quantity": mean over seeds}."""
    found: dict[str, float] = {}
    for (network, name, variant, start, threshold, steps), group in grouped(rows, CASE).items():
        how = f"dense-{steps}" if threshold is None else f"{threshold:g}"
        for column in ("epe", "f1_all", "macs_saved", "release_saved"):
            if column in group[0]:
                place = f"flow.{network}.{name}.{variant}.{start}.{how}.{column}"
                found[place] = statistic(numbers(group, column)).mean
    return found


def cases_table(rows: Sequence[Row]) -> str:
    """A row a network, set, variant, start and threshold (or number of dense steps)."""
    lines = []
    for (*names, threshold, steps), group in grouped(rows, CASE).items():
        line = [str(name) for name in names]
        error = [spread(group, "epe", "{:.3f}"), spread(group, "f1_all", "{:.1f}")]
        if threshold is None:
            line += [f"dense, {steps} steps", *error, spread(group, "hoisted", "{:.1f}"), "", "", ""]
        else:
            work = [spread(group, column, "{:.1f}") for column in ("work", "release")]
            skipped = [spread(group, f"{part}_skipped", "{:.2f}") for part in ("elements", "pixels")]
            line += [f"{steps} steps, threshold {threshold:g}", *error, *work, *skipped]
        lines.append(line)
    heads = ["network", "set", "solver", "start", "evaluation", "EPE, px", "F1, %", "MACs, %", "release's, %"]
    return markdown([*heads, "elements skipped", "pixels skipped"], lines)


def tradeoff(rows: Sequence[Row], count: Literal["work", "release"]) -> Figure:
    """EPE against the work left by one of the counts: a row a network and set, a column a solver, a colour a start.

    Against the true count, dense solves with fewer steps are drawn too, their context treated once.
    """
    cases = grouped(rows, ("network", "set", "variant", "start"))
    lines = list(dict.fromkeys((network, name) for network, name, _, _ in cases))
    variants = list(dict.fromkeys(variant for _, _, variant, _ in cases))
    colours = dict(zip(dict.fromkeys(start for *_, start in cases), cycle(plotting.PALETTE)))
    shape = {"rows": len(lines), "columns": len(variants)}
    figure, panels = plotting.figure(3.6 * len(variants), 2.6 * len(lines), **shape)
    places = [(network, name, variant) for network, name in lines for variant in variants]
    for axes, (network, name, variant) in zip(panels, places, strict=True):
        for start, color in colours.items():
            chosen = cases.get((network, name, variant, start), [])
            sparse = [row for row in chosen if "threshold" in row]
            dense = [row for row in chosen if "threshold" not in row]
            if sparse:
                quality_by_work(axes, sparse, by="threshold", x=count, y="epe", label=start, color=color)
            if dense and count == "work":
                look = {"label": f"{start}, fewer dense steps", "line": ":", "color": color}
                quality_by_work(axes, dense, by="max_steps", x="hoisted", y="epe", **look)
        axes.set_title(f"{network}: {name}, {variant}")
        axes.set_xlabel({"work": "MACs", "release": "release's count"}[count] + ", % of the dense solve's")
        axes.set_ylabel("EPE (px)")
        if axes.has_data():
            axes.legend(fontsize="xx-small")
    return figure


def activity(evaluations: Sequence[Row], layers: Sequence[Row]) -> Figure:
    """Shares of the hidden state that still change at each evaluation, and what the layers skip; a row a network.

    The set is the one with the most starts; thresholds are those of the first variant, and the middle one of them.
    """
    by_network, of_layers = grouped(evaluations, ("network",)), grouped(layers, ("network",))
    figure, panels = plotting.figure(12.0, 3.8 * len(by_network), rows=len(by_network), columns=3)
    for number, (key, rows) in enumerate(by_network.items()):
        draw_activity(panels[3 * number : 3 * number + 3], key[0], rows, of_layers[key])
    return figure


def draw_activity(panels: Sequence[Any], network: str, table: Sequence[Row], by_layer: Sequence[Row]) -> None:
    """The three panels of one network."""
    state, work, layers = panels
    starts = {name: len(grouped(rows, ("start",))) for (name,), rows in grouped(table, ("set",)).items()}
    name = max(starts, key=lambda name: starts[name])
    own = [row for row in table if (row["set"], row["variant"]) == (name, table[0]["variant"])]
    thresholds = list(dict.fromkeys(numbers(own, "threshold")))
    middle, first = thresholds[len(thresholds) // 2], own[0]["start"]
    cases = grouped(own, ("start", "threshold"))
    for start in dict.fromkeys(row["start"] for row in own):
        for part in ("elements", "pixels", "tiles"):
            seeds = by_seed(cases[start, middle])
            plotting.curve_of(state, seeds, "evaluation", f"state_{part}", label=f"{part}, {start}")
    state.set_title(f"{network}, {name}: hidden state changed by over {middle:g}")
    state.set_ylabel("share")
    for threshold in thresholds:
        seeds = by_seed(cases[first, threshold])
        plotting.curve_of(work, seeds, "evaluation", "macs_saved", label=f"{threshold:g}")
    work.set_title(f"MACs saved, {first}, by threshold")
    for axes in (state, work):
        axes.set_xlabel("evaluation")
        axes.set_ylim(-0.03, 1.03)
        axes.legend(fontsize="x-small")
    wanted = {"set": name, "variant": own[0]["variant"], "start": first, "threshold": middle}
    chosen = [row for row in by_layer if wanted.items() <= row.items()]
    skipped = {part: aggregate(chosen, ("layer",), f"{part}_skipped") for part in ("elements", "pixels", "tiles")}
    names = dict.fromkeys(row["layer"] for row in chosen)
    plotting.bars(layers, {str(layer): {part: found[(layer,)] for part, found in skipped.items()} for layer in names})
    layers.set_title(f"inputs skipped, {first}, at {middle:g}")
    layers.tick_params(axis="x", rotation=90, labelsize="x-small")
    layers.legend(fontsize="x-small")


def still_changing(maps: Mapping[str, dict[str, Any]]) -> Figure:
    """Which cells of the example still change, evaluation by evaluation, a row a network and start."""
    starts = {
        (network, name): cells for network, arrays in maps.items() for name, cells in arrays.items() if name != "image"
    }
    shortest = min(map(len, starts.values()))
    shown = [number for number in SHOWN if number <= shortest] or [shortest]
    grid = [
        [
            (network, rearrange(maps[network]["image"], "c h w -> h w c")),
            *((f"{start}: evaluation {number}", cells[number - 1]) for number in shown),
        ]
        for (network, start), cells in starts.items()
    ]
    return plotting.image_grid(grid, width=11.0)


REPORT = Report(name="delta.sweep_report", section="delta", page=page)
