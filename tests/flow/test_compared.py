"""The figure of one pair: true flow, flow of each method, and errors."""

import numpy as np
import pytest
import torch

from deq_flow.reports.compared import compared
from deq_flow.visualize import flow_key, flow_to_rgb

HEIGHT, WIDTH = 20, 30


def test_errors_are_those_of_known_flow_on_one_scale() -> None:
    truth, valid = torch.full((2, HEIGHT, WIDTH), 3.0), torch.ones(HEIGHT, WIDTH, dtype=torch.bool)
    truth[:, :5], valid[:5] = torch.nan, False
    right, wrong = torch.full_like(truth, 3.0), torch.full_like(truth, 3.0)
    wrong[0] += 2.0
    image = torch.full((3, HEIGHT, WIDTH), 9, dtype=torch.uint8)
    figure = compared(image, image, truth, valid, {"right": right, "wrong": wrong})
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[:3] == ["true flow, to 4 px", "right: flow", "wrong: flow"]
    assert titles[3:6] == ["both frames, colour key", "error, mean 0.00 px", "error, mean 2.00 px"]
    known, frames = (np.asarray(figure.axes[place].images[0].get_array()) for place in (0, 3))
    assert (known[5:] == known[5, 0]).all(), "the key hides no truth"
    assert (frames[-1, -6:] != 9).all()
    drawn = [np.ma.filled(np.ma.asarray(axes.images[0].get_array()), np.nan) for axes in figure.axes[4:6]]
    assert np.isnan(drawn[1][:5]).all()
    assert (drawn[1][5:] == 2).all()
    assert {axes.images[0].get_clim() for axes in figure.axes[4:6]} == {(0.0, 2.0)}


@pytest.mark.parametrize(("u", "v"), [(0.8, 0.6), (0.0, -1.0), (-0.5, 0.5)])
def test_the_key_shows_the_colour_of_each_motion_where_it_points(u: float, v: float) -> None:
    key, middle = flow_key(101), 50
    colour = flow_to_rgb(torch.tensor([u, v]).reshape(2, 1, 1), max_norm=1.0)[:, 0, 0]
    shown = key[:, middle + round(50 * v), middle + round(50 * u)]
    assert (shown.int() - colour.int()).abs().max() <= 1, "but for rounding"
    assert (key[:, 0, 0] == 255).all()
    assert (key[:, middle, middle] >= 254).all()
