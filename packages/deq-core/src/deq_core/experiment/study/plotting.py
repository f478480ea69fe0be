"""Draws figures in one style, with means and deviations over seeds, as reproducible files."""

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
"""Colours for the colour-blind (Okabe and Ito, 2008), strongest first."""
STYLES = ("-", "--", ":", "-.")
"""Line styles, if colours do not suffice."""

_STYLE: dict[Any, Any] = {
    "axes.grid": True,
    "axes.prop_cycle": cycler(color=PALETTE),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": "medium",
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",  # comes with matplotlib, so text is the same on every machine
    "font.size": 9,
    "grid.alpha": 0.3,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "savefig.bbox": None,
    "svg.fonttype": "path",
    "svg.hashsalt": "deq",  # without it, element names are random
}


@dataclass(frozen=True)
class Scale:
    """Colour scale of heat maps."""

    label: str
    """Quantity and unit."""
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
    """A new figure and its axes, row by row.

    Args:
        width: width in inches.
        height: height in inches.
        rows: number of rows of panels.
        columns: number of columns of panels.
        share: panels that share the limits of both axes.
    """
    with mpl.rc_context(_STYLE):
        drawn = Figure(figsize=(width, height))
        FigureCanvasAgg(drawn)
        grid = drawn.subplots(rows, columns, squeeze=False, sharex=share, sharey=share)
    return drawn, list(grid.flat)


def shades(count: int) -> list[str]:
    """`count` colours from dark to light, for ordered quantities such as steps."""
    return [to_hex(mpl.colormaps["viridis"](0.9 * place / max(count - 1, 1))) for place in range(count)]


def name_axes(drawn: Figure, *, x: str, y: str) -> None:
    """Labels the axes shared by all panels of a figure."""
    with mpl.rc_context(_STYLE):
        drawn.supxlabel(x, fontsize="medium")
        drawn.supylabel(y, fontsize="medium")


def legend(drawn: Figure, *, columns: int = 4) -> None:
    """Adds one legend with the labels of all panels above the figure.

    It has at most `columns` columns, fewer if the figure is too narrow.
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
    """Adds one labelled colour bar for all maps in `axes`."""
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
        axes: axes to draw on.
        x: x values of the points.
        seeds: values (seeds, n), one row for each seed; a single row has no band.
        label: label in the legend.
        geometric: whether to use logarithms for both: the geometric mean, and a factor to each side.
        look: options of `Axes.plot`, such as `color`, `linestyle` and `marker`.
    """
    values = np.asarray(seeds, dtype=np.float64)
    values, back = (np.log(values), np.exp) if geometric else (values, np.asarray)
    mean = values.mean(axis=0)
    with mpl.rc_context(_STYLE):
        (line,) = axes.plot(x, back(mean), label=label, **look)
        if len(values) > 1:
            std = values.std(axis=0, ddof=1)
            low, high = back(mean - std), back(mean + std)
            axes.fill_between(x, low, high, color=line.get_color(), alpha=0.2, linewidth=0)


def curve_of(axes: Axes, seeds: Sequence[Sequence[Row]], x: str, y: str, *, label: str, **look: Any) -> None:
    """Draws the column `y` of one table for each seed against the column `x`; rows without `y` are left out."""
    known = [[row for row in rows if y in row] for rows in seeds]
    curve(axes, numbers(known[0], x), [numbers(rows, y) for rows in known], label=label, **look)


def smoothed(rows: Sequence[Row], columns: Sequence[str], window: int) -> list[Row]:
    """A table whose rows are means over `window` consecutive rows; see `smooth`."""
    means = [smooth(numbers(rows, column), window) for column in columns]
    return [dict(zip(columns, values, strict=True)) for values in zip(*means, strict=True)]


def smooth(values: Sequence[float], window: int) -> list[float]:
    """Means of consecutive groups of `window` values; the last group may be shorter."""
    if window < 1:
        raise ValueError(f"window: expected at least 1, got {window}")
    return [statistic(values[start : start + window]).mean for start in range(0, len(values), window)]


def bars(axes: Axes, groups: Mapping[str, Mapping[str, Statistic]]) -> None:
    """Draws grouped bars; for several seeds, error bars are one sample standard deviation.

    Args:
        axes: axes to draw on.
        groups: {group (tick of the x axis): {series (colour): its statistic}}; a group may lack a series.
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
                yerr=[item.std for item in found],  # NaN, the deviation of a single seed, draws no bar
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
        rows: rows of equal length of (title, image). An image is (h, w, 3) uint8, or (h, w), drawn as a heat map.
        width: width of the figure in inches; its height follows from the images.
        scale: scale of all heat maps, with one colour bar; by default each has its own scale without a bar.
    """
    columns = len(rows[0])
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
    """The points of all labelled curves: `panel`, `curve`, `x`, and `y` or, on a logarithmic axis, its logarithm.

    Programs that plot tables, such as `dvc plots`, can reproduce the figure from them.
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
            if name.startswith("_"):  # matplotlib's labels of unlabelled curves
                continue
            for x, y in np.asarray(line.get_xydata(), dtype=np.float64).tolist():
                if not logarithmic or y > 0:
                    rows.append({"panel": panel, "curve": name, "x": x, "y": math.log10(y) if logarithmic else y})
    return rows


def save(drawn: Figure, path: Path, *, dpi: int = 120) -> None:
    """Writes a figure as SVG or PNG, by the suffix of `path`; the same figure gives the same bytes.

    On a logarithmic axis, a band that reaches zero or below extends to the end of the axis.

    Args:
        drawn: the figure.
        path: file to write.
        dpi: pixels per inch of a PNG, and of images in an SVG.
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
    """Moves points of bands that have no logarithm to the lower end of the axis.

    matplotlib places them a thousand decades below, which makes the edge from the last positive point vertical.
    """
    lowest = axes.get_ylim()[0]
    for band in axes.collections:
        for path in band.get_paths() if isinstance(band, PolyCollection) else ():
            heights = np.asarray(path.vertices)[:, 1]
            path.vertices = np.column_stack([np.asarray(path.vertices)[:, 0], np.where(heights > 0, heights, lowest)])
