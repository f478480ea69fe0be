"""The house style of figures: means with their spread over seeds, written to the same bytes every time."""

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes as Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure as Figure
from matplotlib.image import AxesImage

from deq_core.experiment.files import write_bytes
from deq_core.experiment.tables import Row, Statistic, numbers, statistic

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#999999")
"""Colours that the colour-blind tell apart (Okabe and Ito, 2008), the strongest first."""
STYLES = ("-", "--", ":", "-.")
"""Of lines, where colours are taken or not enough."""

_STYLE: dict[Any, Any] = {
    "axes.grid": True,
    "axes.prop_cycle": cycler(color=PALETTE),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": "medium",
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that every machine draws the same text
    "font.size": 9,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "savefig.bbox": None,
    "svg.fonttype": "path",
    "svg.hashsalt": "deq",  # element names are random without it
}


@dataclass(frozen=True)
class Scale:
    """What the colours of heat maps mean."""

    label: str
    """The quantity, and its unit."""
    low: float
    high: float


def figure(
    width: float = 6.0,
    height: float = 3.5,
    *,
    rows: int = 1,
    columns: int = 1,
    share: Literal["none", "all", "row", "col"] = "none",
) -> tuple[Figure, list[Axes]]:
    """A figure of `width` x `height` inches in the house style, and its axes row by row.

    Args:
        width: inches.
        height: inches.
        rows: of panels.
        columns: of panels.
        share: panels with the limits of both axes in common.
    """
    with mpl.rc_context(_STYLE):
        drawn = Figure(figsize=(width, height))
        FigureCanvasAgg(drawn)
        grid = drawn.subplots(rows, columns, squeeze=False, sharex=share, sharey=share)
    return drawn, list(grid.flat)


def shades(count: int) -> list[str]:
    """Colours of things in an order, such as steps, from dark to light."""
    return [to_hex(mpl.colormaps["viridis"](0.9 * place / max(count - 1, 1))) for place in range(count)]


def name_axes(drawn: Figure, *, x: str, y: str) -> None:
    """Names the axes that all panels of a figure share, once."""
    with mpl.rc_context(_STYLE):
        drawn.supxlabel(x, fontsize="medium")
        drawn.supylabel(y, fontsize="medium")


def legend(drawn: Figure, *, columns: int = 4) -> None:
    """One legend of everything that has a label in any panel, each once, above all panels.

    In `columns` columns, or as many as the width of the figure has place for.
    """
    found = [axes.get_legend_handles_labels() for axes in drawn.axes]
    handles = {label: handle for each in found for handle, label in zip(*each, strict=True)}
    with mpl.rc_context(_STYLE):
        for count in range(min(columns, len(handles)), 0, -1):
            made = drawn.legend(handles.values(), handles, loc="outside upper center", ncols=count, fontsize="small")
            if made.get_window_extent().width <= drawn.bbox.width or count == 1:
                return
            made.remove()


def colour_bar(drawn: Figure, image: ScalarMappable, label: str, axes: Sequence[Axes]) -> None:
    """One bar for the colours of all maps in `axes`, named with its unit."""
    with mpl.rc_context(_STYLE):
        drawn.colorbar(image, ax=axes, label=label, fraction=0.02, pad=0.01)


def curve(
    axes: Axes,
    x: Sequence[float],
    seeds: Sequence[Sequence[float]],
    *,
    label: str,
    geometric: bool = False,
    **look: Any,
) -> None:
    """Draws the mean over seeds against `x` (n,), with a band of one sample standard deviation to each side.

    Args:
        axes: where.
        x: of the points.
        seeds: (seeds, n), one row of values for each seed; a single row has no band.
        label: in the legend.
        geometric: both of logarithms, for a logarithmic axis: the geometric mean, and a factor to each side.
        look: of the line, as `Axes.plot` takes it: `color`, `linestyle`, `marker`; the next colour by default.
    """
    values = np.asarray(seeds, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != len(x):
        raise ValueError(
            f"{label}: expected one value at each of {len(x)} points for every seed, got shape {values.shape}"
        )
    values, back = (np.log(values), np.exp) if geometric else (values, np.asarray)
    mean = values.mean(axis=0)
    with mpl.rc_context(_STYLE):
        (line,) = axes.plot(x, back(mean), label=label, **look)
        if len(values) > 1:
            std = values.std(axis=0, ddof=1)
            low, high = back(mean - std), back(mean + std)
            axes.fill_between(x, low, high, color=line.get_color(), alpha=0.2, linewidth=0)


def curve_of(axes: Axes, seeds: Sequence[Sequence[Row]], x: str, y: str, *, label: str, **look: Any) -> None:
    """Draws the column `y` of a table of each seed against its column `x`; rows without `y` are left out."""
    known = [[row for row in rows if y in row] for rows in seeds]
    curve(axes, numbers(known[0], x), [numbers(rows, y) for rows in known], label=label, **look)


def smoothed(rows: Sequence[Row], columns: Sequence[str], window: int) -> list[Row]:
    """A table whose rows are means over `window` consecutive ones; see `smooth`."""
    means = [smooth(numbers(rows, column), window) for column in columns]
    return [dict(zip(columns, values, strict=True)) for values in zip(*means, strict=True)]


def smooth(values: Sequence[float], window: int) -> list[float]:
    """Means of consecutive groups of `window` values, the last group as long as it is."""
    if window < 1:
        raise ValueError(f"window: expected at least 1, got {window}")
    return [statistic(values[start : start + window]).mean for start in range(0, len(values), window)]


def bars(axes: Axes, groups: Mapping[str, Mapping[str, Statistic]]) -> None:
    """Draws bars in groups, with error bars of one sample standard deviation where there is more than one seed.

    Args:
        groups: group (a tick of the x axis) -> series (a colour) -> its statistic; a group may lack a series.
    """
    series = list(dict.fromkeys(name for group in groups.values() for name in group))
    width = 0.8 / max(len(series), 1)
    with mpl.rc_context(_STYLE):
        for index, name in enumerate(series):
            places = [place for place, group in enumerate(groups.values()) if name in group]
            found = [group[name] for group in groups.values() if name in group]
            axes.bar(
                [place + (index - (len(series) - 1) / 2) * width for place in places],
                [item.mean for item in found],
                width,
                yerr=[item.std for item in found],  # no bar is drawn for NaN, the spread of a single seed
                error_kw={"elinewidth": 1, "capsize": 2},
                label=name,
                color=PALETTE[index % len(PALETTE)],
            )
        axes.set_xticks(range(len(groups)), list(groups))
        axes.grid(visible=False, axis="x")


def image_grid(
    rows: Sequence[Sequence[tuple[str, np.ndarray]]], *, width: float = 8.0, scale: Scale | None = None
) -> Figure:
    """A figure of titled images, row by row.

    Args:
        rows: rows of equal length of (title, image), an image being (h, w, 3) uint8 or (h, w), the latter drawn as
            a heat map.
        width: width of the figure in inches; its height follows from the images.
        scale: of all heat maps, with one colour bar; by default each has its own, and none is shown.
    """
    columns = len(rows[0])
    if any(len(row) != columns for row in rows):
        raise ValueError(f"expected rows of equal length, got {[len(row) for row in rows]}")
    heights = [max(image.shape[0] / image.shape[1] for _, image in row) for row in rows]
    height = width / columns * sum(heights) + 0.3 * len(rows)
    drawn, axes = figure(width, height, rows=len(rows), columns=columns)
    cells = [cell for row in rows for cell in row]
    low, high = (None, None) if scale is None else (scale.low, scale.high)
    heat: AxesImage | None = None
    for place, (title, image) in zip(axes, cells, strict=True):
        shown = place.imshow(image, interpolation="nearest", cmap="viridis", vmin=low, vmax=high)
        heat = shown if image.ndim == 2 else heat
        place.set_title(title)
        place.set_axis_off()
    if scale is not None and heat is not None:
        colour_bar(drawn, heat, scale.label, axes)
    return drawn


def points(drawn: Figure) -> list[Row]:
    """The points of all curves that have a name: `panel`, `curve`, `x` and `y`; of a logarithmic axis its logarithm.

    So a program that draws tables, as `dvc plots` does, draws what the figure shows.
    """
    rows: list[Row] = []
    for number, axes in enumerate(drawn.axes, start=1):
        logarithmic = axes.get_yscale() == "log"
        words = ", ".join(filter(None, (axes.get_title(), axes.get_ylabel())))
        panel = f"{number}: {'log10 of ' if logarithmic else ''}{words}"
        barred = [each for each in axes.containers if isinstance(each, ErrorbarContainer)]
        named = {str(line.get_label()): line for line in axes.get_lines()} | {
            str(each.get_label()): each[0] for each in barred
        }
        for name, line in named.items():
            if name.startswith("_"):  # as matplotlib calls what has no name
                continue
            for x, y in np.asarray(line.get_xydata(), dtype=np.float64).tolist():
                if not logarithmic or y > 0:
                    rows.append({"panel": panel, "curve": name, "x": x, "y": math.log10(y) if logarithmic else y})
    return rows


def save(drawn: Figure, path: Path, *, dpi: int = 120) -> None:
    """Writes a figure as SVG or PNG, by the suffix of `path`; the same figure gives the same bytes.

    On a logarithmic axis a band that reaches zero or below goes down to the end of the axis.

    Args:
        dpi: pixels an inch, of a PNG and of images within an SVG.
    """
    metadata = {".svg": {"Date": None, "Creator": None}, ".png": {"Software": None}}
    if path.suffix not in metadata:
        raise ValueError(f"{path}: expected a name that ends in .svg or .png")
    for axes in drawn.axes:
        if axes.get_yscale() == "log":
            _end_bands(axes)
    buffer = io.BytesIO()
    with mpl.rc_context(_STYLE):
        drawn.savefig(buffer, format=path.suffix[1:], dpi=dpi, metadata=metadata[path.suffix])
    write_bytes(path, buffer.getvalue())


def _end_bands(axes: Axes) -> None:
    """Puts the points of bands that have no logarithm at the lower end of the axis.

    matplotlib puts them a thousand decades down, so that the edge from the last positive point falls straight.
    """
    lowest = axes.get_ylim()[0]
    for band in axes.collections:
        for path in band.get_paths() if isinstance(band, PolyCollection) else ():
            heights = np.asarray(path.vertices)[:, 1]
            path.vertices = np.column_stack([np.asarray(path.vertices)[:, 0], np.where(heights > 0, heights, lowest)])
