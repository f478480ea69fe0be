"""Draws the stages of dvc.yaml and the flow of data between them: `python -m workflows.architecture`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.text import Text

from deq_core.experiment.study import plotting
from deq_core.experiment.study.plotting import PALETTE, Axes, Figure
from workflows import graph, parameters

PICTURE = Path("docs/figures/architecture.svg")


def edges(rules: Sequence[graph.Rule]) -> dict[str, list[str]]:
    """For each stage, the stages whose files it reads."""
    writers = {path: rule.name for rule in rules for job in rule.jobs.values() for path in job.outputs}
    return {
        rule.name: list(
            dict.fromkeys(writers[path] for job in rule.jobs.values() for path in job.inputs if path in writers)
        )
        for rule in rules
    }


def direct(read: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The same without stages that are also read through another one."""

    def behind(name: str) -> set[str]:
        return {far for before in read[name] for far in (before, *behind(before))}

    return {
        name: [one for one in before if not any(one in behind(other) for other in before)]
        for name, before in read.items()
    }


def columns(read: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """The column of each stage: the length of the longest path to it."""
    found: dict[str, int] = {}

    def column(name: str) -> int:
        if name not in found:
            found[name] = max((column(before) + 1 for before in read[name]), default=0)
        return found[name]

    return {name: column(name) for name in read}


def picture(rules: Sequence[graph.Rule]) -> Figure:
    """The figure: a box for each stage, a band for each pipeline, and an arrow where a stage reads from another."""
    read = edges(rules)
    column = columns(read)
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
    for name, before in direct(read).items():
        for source in before:
            ends = {"patchA": boxes[source].get_bbox_patch(), "patchB": boxes[name].get_bbox_patch()}
            look = {"arrowstyle": "-|>", "color": "0.45", "linewidth": 0.7, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", places[name], places[source], arrowprops={**look, **ends}, zorder=1)
    axes.set_xlim(-0.75, max(column.values()) + 0.55)
    axes.set_ylim(row - 0.6, -0.6)
    axes.set_axis_off()
    return figure


def box(axes: Axes, place: tuple[float, float], rule: graph.Rule) -> Text:
    """The box of a stage, with the number of its jobs if there are several."""
    title = rule.name.removeprefix(f"{rule.pipeline}_").replace("_", " ")
    text = title if len(rule.jobs) == 1 else f"{title} ({len(rule.jobs)})"
    style = {"boxstyle": "round,pad=0.28", "facecolor": "white", "edgecolor": "0.35", "linewidth": 0.8}
    return axes.text(*place, text, ha="center", va="center", fontsize=8, bbox=style, zorder=3)


def main() -> None:
    """Writes the picture that docs/architecture.md shows."""
    plotting.save(picture(graph.rules(parameters.load())), PICTURE)


if __name__ == "__main__":
    main()
