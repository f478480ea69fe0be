"""Figures of the delta studies on flow networks, drawn from their tables alone; those of `inr.plot` beside them."""

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, Literal

import numpy as np

from deq_core.experiment.files import output_directory
from deq_core.experiment.study import plotting
from deq_core.experiment.study.plotting import Figure
from deq_core.experiment.tables import aggregate, grouped, numbers
from deq_flow.delta_tables import DeltaTables, Folders, first_arrays, rows, shared_of
from deq_flow.inr.plot import image_figures, sine_figure
from deq_flow.tradeoff import mean_by, tradeoff

SHOWN = (2, 3, 5, 8, 12)
"""Evaluations whose maps are shown, where a solve has them."""


def figures(tables: DeltaTables, *, out: Path, dpi: int) -> list[Path]:
    """Draws the figures as SVG into `out`; returns their paths."""
    drawings: dict[str, Figure] = {
        "flow_tradeoff.svg": flow_tradeoff(tables, "work"),
        "flow_release.svg": flow_tradeoff(tables, "release"),
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


def flow_tradeoff(tables: DeltaTables, count: Literal["work", "release"]) -> Figure:
    """EPE against the work left by one of the counts: a row a network and set, a column a solver, a colour a start.

    Against the true count, dense solves with fewer steps are drawn too, their context treated once.
    """
    cases = {
        (network, *case): own
        for network, folders in tables.sweep.items()
        for case, own in grouped(shared_of(rows(folders, "sweep")), ("set", "variant", "start")).items()
    }
    lines = list(dict.fromkeys((network, name) for network, name, _, _ in cases))
    variants = list(dict.fromkeys(variant for _, _, variant, _ in cases))
    colours = dict(zip(dict.fromkeys(start for *_, start in cases), cycle(plotting.PALETTE)))
    shape = {"rows": len(lines), "columns": len(variants)}
    figure, axes = plotting.figure(3.6 * len(variants), 2.6 * len(lines), **shape)
    places = [(network, name, variant) for network, name in lines for variant in variants]
    for place, (network, name, variant) in zip(axes, places, strict=True):
        for start, colour in colours.items():
            chosen = cases.get((network, name, variant, start), [])
            sparse = [row for row in chosen if "threshold" in row]
            dense = [row for row in chosen if "threshold" not in row]
            look = {"y": "epe", "color": colour}
            if sparse:
                tradeoff(place, sparse, by="threshold", x=count, label=start, **look)
            if dense and count == "work":
                tradeoff(
                    place, dense, by="max_steps", x="hoisted", label=f"{start}, fewer dense steps", line=":", **look
                )
        place.set_title(f"{network}: {name}, {variant}")
        place.set_xlabel({"work": "MACs", "release": "release's count"}[count] + ", % of the dense solve's")
        place.set_ylabel("EPE (px)")
        if place.has_data():
            place.legend(fontsize="xx-small")
    return figure


def flow_activity(tables: DeltaTables) -> Figure:
    """Shares of the hidden state that still change at each evaluation, and what the layers skip; a row a network.

    The set is the one with the most starts; thresholds are those of the first variant, and the middle one of them.
    """
    figure, axes = plotting.figure(12.0, 3.8 * len(tables.sweep), rows=len(tables.sweep), columns=3)
    for number, (network, folders) in enumerate(tables.sweep.items()):
        draw_activity(axes[3 * number : 3 * number + 3], network, folders)
    return figure


def draw_activity(axes: Sequence[Any], network: str, folders: Folders) -> None:
    """The three panels of one network."""
    state, work, layers = axes
    table = rows(folders, "evaluations")
    starts = {name: {row["start"] for row in table if row["set"] == name} for name in {row["set"]: 0 for row in table}}
    name = max(starts, key=lambda name: len(starts[name]))
    own = [row for row in table if row["set"] == name and row["variant"] == table[0]["variant"]]
    thresholds = list(dict.fromkeys(numbers(own, "threshold")))
    middle = thresholds[len(thresholds) // 2]
    for start in dict.fromkeys(row["start"] for row in own):
        chosen = [row for row in own if row["start"] == start and row["threshold"] == middle]
        for part in ("elements", "pixels", "tiles"):
            plotting.curve(state, *mean_by(chosen, "evaluation", f"state_{part}"), label=f"{part}, {start}")
    state.set_title(f"{network}, {name}: hidden state changed by over {middle:g}")
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
    by_layer = [row for row in rows(folders, "layers") if wanted.items() <= row.items()]
    skipped = {part: aggregate(by_layer, ("layer",), f"{part}_skipped") for part in ("elements", "pixels", "tiles")}
    names = dict.fromkeys(row["layer"] for row in by_layer)
    plotting.bars(layers, {str(layer): {part: found[(layer,)] for part, found in skipped.items()} for layer in names})
    layers.set_title(f"inputs skipped, {first}, at {middle:g}")
    layers.tick_params(axis="x", rotation=90, labelsize="x-small")
    layers.legend(fontsize="x-small")


def flow_maps(tables: DeltaTables) -> Figure:
    """Which cells of the example still change, evaluation by evaluation, a row a network and start."""
    found = {network: first_arrays(folders, "maps") for network, folders in tables.sweep.items()}
    images = {network: arrays.pop("image").transpose(1, 2, 0) for network, arrays in found.items()}
    shortest = min(len(maps) for arrays in found.values() for maps in arrays.values())
    shown = [number for number in SHOWN if number <= shortest] or [shortest]
    grid = [
        [(network, images[network]), *((f"{start}: evaluation {number}", maps[number - 1]) for number in shown)]
        for network, arrays in found.items()
        for start, maps in arrays.items()
    ]
    return plotting.image_grid(grid, width=11.0)


def flow_convergence(tables: DeltaTables) -> Figure:
    """When the elements of the states settle, error and residual, principal components and paths; a row a network."""
    figure, axes = plotting.figure(12.5, 3.4 * len(tables.convergence), rows=len(tables.convergence), columns=4)
    for number, (network, folders) in enumerate(tables.convergence.items()):
        draw_convergence(axes[4 * number : 4 * number + 4], network, folders)
    return figure


def draw_convergence(axes: Sequence[Any], network: str, folders: Folders) -> None:
    """The four panels of one network, of its first set."""
    settled, steps, components, paths = axes
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
    settled.set_title(f"{network}, {name}")


def flow_settling(tables: DeltaTables) -> Figure:
    """Mean steps to settle at each cell of one pair, a row a network."""
    grid = []
    for network, folders in tables.convergence.items():
        arrays = first_arrays(folders, "maps")
        cells = [(network, arrays["image"].transpose(1, 2, 0))]
        grid.append([*cells, *((f"{part}: steps to settle", arrays[f"{part}_lasting"]) for part in ("hidden", "flow"))])
    return plotting.image_grid(grid, width=9.0)
