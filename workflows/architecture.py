"""Draws the stages of dvc.yaml and the flow of data between them: `python -m workflows.architecture`."""

from collections.abc import Sequence
from pathlib import Path

import networkx as nx
from matplotlib.text import Text

from deq_core.experiment.study import plotting
from deq_core.experiment.study.plotting import PALETTE, Axes, Figure
from workflows.engines import parameters
from workflows.engines.graph import Rule, rules

PICTURE = Path("docs/figures/architecture.svg")


def edges(rules: Sequence[Rule]) -> dict[str, list[str]]:
    """For each stage, the stages whose files it reads."""
    writers = {path: rule.name for rule in rules for job in rule.jobs.values() for path in job.outputs}
    return {
        rule.name: list(
            dict.fromkeys(writers[path] for job in rule.jobs.values() for path in job.inputs if path in writers)
        )
        for rule in rules
    }


def picture(rules: Sequence[Rule]) -> Figure:
    """The figure: a box for each stage, a band for each pipeline, and an arrow where a stage reads from another."""
    read = edges(rules)
    graph = nx.DiGraph((before, name) for name, sources in read.items() for before in sources)
    direct = nx.transitive_reduction(graph)  # without what a stage reads through another one too
    column = {name: place for place, names in enumerate(nx.topological_generations(graph)) for name in names}
    places: dict[str, tuple[float, float]] = {}
    bands: list[tuple[str, float, float]] = []
    row = 0.0
    for pipeline in dict.fromkeys(rule.pipeline for rule in rules):
        own = [rule.name for rule in rules if rule.pipeline == pipeline]
        depth = max(sum(column[name] == place for name in own) for place in {column[name] for name in own})
        for place in sorted({column[name] for name in own}):
            stacked = [name for name in own if column[name] == place]
            for number, name in enumerate(stacked):
                places[name] = (float(place), row + (depth - len(stacked)) / 2 + number)
        bands.append((pipeline, row, row + depth))
        row += depth + 0.3
    figure, (axes,) = plotting.figure(1.75 * (max(column.values()) + 1), 0.52 * row)
    for number, (pipeline, top, bottom) in enumerate(bands):
        axes.axhspan(top - 0.5, bottom - 0.5, color=PALETTE[number % len(PALETTE)], alpha=0.08, linewidth=0)
        axes.text(
            -0.62, (top + bottom) / 2 - 0.5, pipeline, rotation=90, ha="center", va="center", weight="bold", fontsize=8
        )
    boxes = {rule.name: box(axes, places[rule.name], rule) for rule in rules}
    for name, before in read.items():
        for source in filter(lambda source, name=name: direct.has_edge(source, name), before):
            ends = {"patchA": boxes[source].get_bbox_patch(), "patchB": boxes[name].get_bbox_patch()}
            look = {"arrowstyle": "-|>", "color": "0.45", "linewidth": 0.7, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", places[name], places[source], arrowprops={**look, **ends}, zorder=1)
    axes.set_xlim(-0.75, max(column.values()) + 0.55)
    axes.set_ylim(row - 0.6, -0.6)
    axes.set_axis_off()
    return figure


def box(axes: Axes, place: tuple[float, float], rule: Rule) -> Text:
    """The box of a stage, with the number of its jobs if there are several."""
    title = rule.name.removeprefix(f"{rule.pipeline}_").replace("_", " ")
    text = title if len(rule.jobs) == 1 else f"{title} ({len(rule.jobs)})"
    style = {"boxstyle": "round,pad=0.28", "facecolor": "white", "edgecolor": "0.35", "linewidth": 0.8}
    return axes.text(*place, text, ha="center", va="center", fontsize=8, bbox=style, zorder=3)


def main() -> None:
    """Writes the picture that docs/architecture.md shows."""
    plotting.save(picture(rules(parameters.load())), PICTURE)


if __name__ == "__main__":
    main()
