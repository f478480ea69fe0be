"""Figures of the delta studies on flow networks, drawn from their tables alone; those of `inr.plot` beside them."""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from deq_core.experiment import plotting
from deq_core.experiment.files import output_directory
from deq_core.experiment.plotting import Figure
from deq_core.experiment.results import Row, aggregate, numbers
from deq_flow.delta_tables import DeltaTables, first_arrays, rows
from deq_flow.inr.plot import image_figures, sine_figure
from deq_flow.tradeoff import mean_by, tradeoff

SHOWN = (2, 3, 5, 8, 12)
"""Evaluations whose maps are shown, where a solve has them."""


def figures(tables: DeltaTables, *, out: Path, dpi: int) -> list[Path]:
    """Draws the figures as SVG into `out`; returns their paths."""
    drawings: dict[str, Figure] = {
        "flow_tradeoff.svg": flow_tradeoff(tables),
        "flow_activity.svg": flow_activity(tables),
        "flow_maps.svg": flow_maps(tables),
        "flow_convergence.svg": flow_convergence(tables),
        "flow_settling.svg": flow_settling(tables),
        "sine.svg": sine_figure(tables.sine),
        **image_figures(tables.images),
    }
    with output_directory(out) as partial:
        for name, drawing in drawings.items():
            plotting.save(drawing, partial / name, dpi=dpi)
    return [out / name for name in drawings]


def shared_of(table: Sequence[Row]) -> list[Row]:
    """Rows with their work as a share, in per cent, of the longest dense solve's of their set.

    `work` by the true count, `hoisted` likewise for dense solves that treat the context once, and `release` by the
    release's count, whose dense solve is that of the row itself.
    """
    whole: dict[Any, float] = {}
    for row in table:
        (dense,) = numbers([row], "macs_dense")
        whole[row["set"]] = max(whole.get(row["set"], 0.0), dense)
    found = []
    for row in table:
        hoisted, sparse = numbers([row], "macs_hoisted")[0], numbers([row], "macs_sparse")[0]
        total = whole[row["set"]]
        more: Row = {"work": 100 * sparse / total, "hoisted": 100 * hoisted / total}
        if "release_saved" in row:
            more["release"] = 100 * (1 - numbers([row], "release_saved")[0])
        found.append({**row, **more})
    return found


def flow_tradeoff(tables: DeltaTables) -> Figure:
    """EPE against true MACs above, and against the release's count below, a column a set."""
    table = shared_of(rows(tables.sweep, "sweep"))
    sets = list(dict.fromkeys(str(row["set"]) for row in table))
    figure, axes = plotting.figure(4.0 * len(sets), 6.5, rows=2, columns=len(sets))
    ways = dict.fromkeys((row["variant"], row["start"]) for row in table if "threshold" in row)
    colours = dict(zip(ways, cycle(plotting.PALETTE)))
    for column, name in enumerate(sets):
        true, release = axes[column], axes[len(sets) + column]
        own = [row for row in table if row["set"] == name]
        for variant, start in ways:
            chosen = [row for row in own if (row["variant"], row["start"]) == (variant, start)]
            look = {"label": f"{variant}, {start}", "color": colours[variant, start]}
            for line, x, rule in (("-", "work", True), (":", "hoisted", False)):
                part = [row for row in chosen if ("threshold" in row) == rule]
                if part and (rule or variant == table[0]["variant"]):
                    label = look["label"] if rule else f"{look['label']}, dense with fewer steps"
                    by = "threshold" if rule else "max_steps"
                    tradeoff(true, part, by=by, x=x, y="epe", line=line, **{**look, "label": label})
            sparse = [row for row in chosen if "threshold" in row]
            if sparse:
                tradeoff(release, sparse, by="threshold", x="release", y="epe", **look)
        true.set_title(name)
        true.set_xlabel("MACs, % of the dense solve's")
        release.set_xlabel("release's count, % of its dense one")
        for place in (true, release):
            place.set_ylabel("EPE (px)")
    axes[len(sets) - 1].legend(fontsize="x-small")
    return figure


def flow_activity(tables: DeltaTables) -> Figure:
    """Shares of the hidden state that still change at each evaluation, and what the layers skip, in one set.

    The set is the one with the most starts; thresholds are those of the first variant, and the middle one of them.
    """
    table = rows(tables.sweep, "evaluations")
    starts = {name: {row["start"] for row in table if row["set"] == name} for name in {row["set"]: 0 for row in table}}
    name = max(starts, key=lambda name: len(starts[name]))
    own = [row for row in table if row["set"] == name and row["variant"] == table[0]["variant"]]
    thresholds = list(dict.fromkeys(numbers(own, "threshold")))
    middle = thresholds[len(thresholds) // 2]
    figure, (state, work, layers) = plotting.figure(12.0, 3.8, columns=3)
    for start in dict.fromkeys(row["start"] for row in own):
        chosen = [row for row in own if row["start"] == start and row["threshold"] == middle]
        for part in ("elements", "pixels", "tiles"):
            plotting.curve(state, *mean_by(chosen, "evaluation", f"state_{part}"), label=f"{part}, {start}")
    state.set_title(f"{name}: hidden state changed by more than {middle:g}")
    state.set_ylabel("share")
    first = own[0]["start"]
    for threshold in thresholds:
        chosen = [row for row in own if row["start"] == first and row["threshold"] == threshold]
        plotting.curve(work, *mean_by(chosen, "evaluation", "macs_saved"), label=f"{threshold:g}")
    work.set_title(f"MACs saved, {first}, by threshold")
    for place in (state, work):
        place.set_xlabel("evaluation")
        place.set_ylim(-0.03, 1.03)
        place.legend(fontsize="x-small")
    wanted = {"set": name, "variant": own[0]["variant"], "start": first, "threshold": middle}
    by_layer = [row for row in rows(tables.sweep, "layers") if wanted.items() <= row.items()]
    skipped = {part: aggregate(by_layer, ("layer",), f"{part}_skipped") for part in ("elements", "pixels", "tiles")}
    names = dict.fromkeys(row["layer"] for row in by_layer)
    plotting.bars(layers, {str(layer): {part: found[(layer,)] for part, found in skipped.items()} for layer in names})
    layers.set_title(f"inputs skipped, {first}, at {middle:g}")
    layers.tick_params(axis="x", rotation=90, labelsize="x-small")
    layers.legend(fontsize="x-small")
    return figure


def flow_maps(tables: DeltaTables) -> Figure:
    """Which cells of the example still change, evaluation by evaluation, a row a start."""
    arrays = first_arrays(tables.sweep, "maps")
    image = arrays.pop("image").transpose(1, 2, 0)
    grid = []
    for start, maps in arrays.items():
        shown = [number for number in SHOWN if number <= len(maps)] or [len(maps)]
        cells = [(f"{start}: evaluation {number}", maps[number - 1]) for number in shown]
        grid.append([("frame 1", image), *cells])
    return plotting.image_grid(grid, width=11.0)


def flow_convergence(tables: DeltaTables) -> Figure:
    """When the elements of the states settle, error and residual, principal components and paths."""
    folders = tables.convergence
    figure, (settled, steps, components, paths) = plotting.figure(12.5, 3.4, columns=4)
    histogram = rows(folders, "histogram")
    name = histogram[0]["set"]
    for part, criterion in dict.fromkeys((row["part"], row["criterion"]) for row in histogram):
        chosen = [r for r in histogram if (r["set"], r["part"], r["criterion"]) == (name, part, criterion)]
        x, values = mean_by(chosen, "step", "share")
        reached = [np.cumsum(own).tolist()[:-1] for own in values]  # at the last step are those that never settled
        plotting.curve(settled, x[:-1], reached, label=f"{part}, {criterion}")
    settled.set_ylabel("share of elements settled")
    settled.set_ylim(0, 1.03)
    table = [row for row in rows(folders, "steps") if row["set"] == name]
    for column in ("epe", "residual"):
        plotting.curve(steps, *mean_by(table, "step", column), label=column)
    steps.set_yscale("log")
    table = [row for row in rows(folders, "components") if row["set"] == name]
    plotting.curve(components, *mean_by(table, "component", "cumulative"), label="explained")
    components.set_xlabel("component")
    components.set_ylabel("explained variance, together")
    for path in first_arrays(folders, "maps")["paths"]:
        paths.plot(path[:, 0], path[:, 1], marker=".", linewidth=0.8)
    paths.set_xlabel("component 1")
    paths.set_ylabel("component 2")
    for place in (settled, steps):
        place.set_xlabel("step")
        place.legend(fontsize="x-small")
    settled.set_title(str(name))
    return figure


def flow_settling(tables: DeltaTables) -> Figure:
    """Mean steps to settle at each cell of one pair."""
    arrays = first_arrays(tables.convergence, "maps")
    cells = [("frame 1", arrays["image"].transpose(1, 2, 0))]
    cells += [(f"{part}: steps to settle", arrays[f"{part}_lasting"]) for part in ("hidden", "flow")]
    return plotting.image_grid([cells], width=9.0)
