"""Figures show the statistics they are given and come out the same to the byte."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from deq_core.experiment.study import plotting
from deq_core.experiment.tables import Statistic


def example() -> Figure:
    drawn, (left, right) = plotting.figure(columns=2)
    plotting.curve(left, [1, 2, 3], [[3.0, 2.0, 1.0], [3.5, 2.5, 0.5]], label="a")
    plotting.bars(right, {"clean": {"a": Statistic(1.0, 0.1, 3), "b": Statistic(2.0, math.nan, 1)}})
    left.legend()
    return drawn


def test_a_picture_has_the_same_bytes_twice(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.png" for name in ("one", "two")]
    for path in paths:
        plotting.save(example(), path)
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_a_figure_has_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from deq_core.experiment.study import plotting
from tests.core.experiment.test_plotting import example
plotting.save(example(), Path(sys.argv[1]))
"""
    subprocess.run([sys.executable, "-c", script, tmp_path / "there.svg"], check=True, cwd=Path(__file__).parents[3])
    plotting.save(example(), tmp_path / "here.svg")
    here = (tmp_path / "here.svg").read_bytes()
    assert here == (tmp_path / "there.svg").read_bytes()
    assert b"<dc:date>" not in here


def test_another_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected a name that ends in \.svg or \.png"):
        plotting.save(example(), tmp_path / "a.jpg")


def test_a_curve_is_the_mean_with_a_band_of_one_standard_deviation() -> None:
    _, (axes,) = plotting.figure()
    plotting.curve(axes, [1, 2], [[1.0, 4.0], [3.0, 4.0]], label="a")
    assert axes.lines[0].get_ydata() == pytest.approx([2.0, 4.0])
    (band,) = axes.collections
    assert isinstance(band, PolyCollection)
    heights = np.asarray(band.get_paths()[0].vertices)[:, 1]
    assert heights.min() == pytest.approx(2 - math.sqrt(2))
    assert heights.max() == pytest.approx(4.0)


def test_a_geometric_band_is_a_factor_to_each_side() -> None:
    _, (axes,) = plotting.figure()
    plotting.curve(axes, [1, 2], [[1.0, 2.0], [100.0, 2.0]], label="a", geometric=True)
    assert axes.lines[0].get_ydata() == pytest.approx([10.0, 2.0])
    heights = np.asarray(axes.collections[0].get_paths()[0].vertices)[:, 1]
    assert (
        heights.max() / 10 == pytest.approx(10 / heights.min()) == pytest.approx(math.exp(math.log(100) / math.sqrt(2)))
    )


def test_a_figure_has_one_legend_with_each_label_once_and_outside_its_panels() -> None:
    drawn, panels = plotting.figure(columns=2, share="all")
    for axes, top in zip(panels, (1.0, 5.0), strict=True):
        plotting.curve(axes, [1, 2], [[0.0, top]], label="a")
    plotting.legend(drawn)
    drawn.canvas.draw()
    (legend,) = drawn.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a"]
    assert legend.get_window_extent().y0 >= max(axes.get_window_extent().y1 for axes in panels)
    assert panels[0].get_ylim() == panels[1].get_ylim()


def test_a_legend_has_as_many_columns_as_the_figure_has_place_for() -> None:
    drawn, (axes,) = plotting.figure(4.0)
    for number in range(5):
        axes.plot([1, 2], label=f"a rather long name of curve number {number}")
    plotting.legend(drawn)
    (legend,) = drawn.legends
    assert legend.get_window_extent().width <= drawn.bbox.width


def test_a_band_that_reaches_zero_ends_where_its_logarithmic_axis_does(tmp_path: Path) -> None:
    seeds = [[1.0, 0.1, 0.01, 0.004], [1.2, 0.9, 0.4, 0.005]]
    drawn, (log, linear) = plotting.figure(columns=2)
    for axes in (log, linear):
        plotting.curve(axes, [1, 2, 3, 4], seeds, label="a")
    log.set_yscale("log")
    log.set_ylim(1e-3, 2)
    before = np.array(linear.collections[0].get_paths()[0].vertices)
    plotting.save(drawn, tmp_path / "a.svg")
    ended, same = (np.asarray(axes.collections[0].get_paths()[0].vertices) for axes in (log, linear))
    assert before[:, 1].min() < 0
    assert np.array_equal(same, before)
    assert np.array_equal(ended, np.where(before > 0, before, 1e-3))


def test_the_points_of_named_curves_are_a_table_with_logarithms_where_the_axis_has_them() -> None:
    drawn, (left, right) = plotting.figure(columns=2)
    left.set_title("left")
    plotting.curve(left, [1, 2], [[3, 5], [5, 7]], label="means")
    left.axhline(1.0)
    right.set_yscale("log")
    right.set_ylabel("residual")
    right.errorbar([1, 2], [0.1, 0.0], [0.01, 0.0], label="with bars")
    assert plotting.points(drawn) == [
        {"panel": "1: left", "curve": "means", "x": 1, "y": 4},
        {"panel": "1: left", "curve": "means", "x": 2, "y": 6},
        {"panel": "2: log10 of residual", "curve": "with bars", "x": 1, "y": -1},
    ]


def test_a_single_seed_has_no_band_and_no_error_bar() -> None:
    _, (axes,) = plotting.figure()
    plotting.curve(axes, [1, 2], [[1.0, 4.0]], label="a")
    assert len(axes.collections) == 0
    plotting.bars(axes, {"clean": {"a": Statistic(1.0, math.nan, 1)}})
    ends = np.concatenate([np.asarray(path.vertices)[:, 1] for lines in axes.collections for path in lines.get_paths()])
    assert np.isnan(ends).all()  # matplotlib draws nothing there, not even the cap of an empty bar


def test_grouped_bars_stand_side_by_side_and_a_gap_stays_open() -> None:
    _, (axes,) = plotting.figure()
    one = Statistic(1.0, 0.1, 3)
    plotting.bars(axes, {"clean": {"a": one, "b": one}, "final": {"b": one}})
    boxes = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    centres = sorted(round(box.get_x() + box.get_width() / 2, 6) for box in boxes)
    assert centres == [-0.2, 0.2, 1.2]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["clean", "final"]


def test_images_stand_in_a_grid() -> None:
    image = np.zeros((4, 6, 3), np.uint8)
    drawn = plotting.image_grid([[("a", image), ("b", image[..., 0])], [("c", image), ("d", image)]])
    assert [axes.get_title() for axes in drawn.axes] == ["a", "b", "c", "d"]


def test_smoothing_averages_groups() -> None:
    assert plotting.smooth([1.0, 3.0, 5.0, 7.0, 9.0], 2) == [2.0, 6.0, 9.0]
    with pytest.raises(ValueError, match="at least 1, got 0"):
        plotting.smooth([1.0], 0)


def test_colours_differ_in_lightness_or_hue_for_every_pair() -> None:
    assert len(set(plotting.PALETTE)) == 8
    _, (axes,) = plotting.figure()
    for index in range(3):
        plotting.curve(axes, [1, 2], [[index, index]], label=str(index))
    assert [line.get_color() for line in axes.lines] == list(plotting.PALETTE[:3])


def test_heat_maps_of_one_scale_have_one_colour_bar_with_its_unit() -> None:
    low, high = np.zeros((4, 6)), np.full((4, 6), 3.0)
    drawn = plotting.image_grid([[("a", low), ("b", high)]], scale=plotting.Scale("steps", 0, 5))
    *panels, bar = drawn.axes
    assert [axes.images[0].get_clim() for axes in panels] == [(0, 5), (0, 5)]
    assert bar.get_ylabel() == "steps"
