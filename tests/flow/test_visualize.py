"""Colours of flow and errors."""

from pathlib import Path

import numpy as np
import pytest
import torch

from deq_flow.visualize import colour_wheel, error_to_rgb, flow_to_rgb

GOLDEN = Path(__file__).parents[1] / "golden"


def constant(u: float, v: float) -> torch.Tensor:
    return torch.stack([torch.full((2, 3), u), torch.full((2, 3), v)])


def test_flow_is_coloured_as_by_the_release() -> None:
    with np.load(GOLDEN / "flow_io.npz") as recorded:
        flow = torch.from_numpy(recorded["flow_viz_in"]).permute(2, 0, 1)
        np.testing.assert_array_equal(flow_to_rgb(flow).permute(1, 2, 0).numpy(), recorded["flow_viz"])


def test_the_wheel_has_55_colours_from_pure_to_pure() -> None:
    wheel = colour_wheel()
    assert wheel.shape == (55, 3)
    corners = wheel[[0, 15, 21, 25, 36, 49]].tolist()
    assert corners == [[255, 0, 0], [255, 255, 0], [0, 255, 0], [0, 255, 255], [0, 0, 255], [255, 0, 255]]
    assert (np.abs(np.diff(wheel, axis=0)) > 0).sum(axis=1).tolist().count(1) >= 48  # one channel changes at a time


def test_standing_still_is_white() -> None:
    assert (flow_to_rgb(constant(0, 0)) == 255).all()


def test_opposite_motions_have_opposite_colours() -> None:
    right, left = flow_to_rgb(constant(5, 0)), flow_to_rgb(constant(-5, 0))
    assert right[:, 0, 0].argmax() == 0  # red
    assert left[:, 0, 0].argmin() == 0  # cyan


def test_colours_depend_on_speed_relative_to_the_greatest() -> None:
    assert torch.equal(flow_to_rgb(constant(1, 2)), flow_to_rgb(constant(10, 20)))
    slow = flow_to_rgb(constant(1, 2), max_norm=10.0)
    fast = flow_to_rgb(constant(2, 4), max_norm=10.0)
    assert (slow.int().sum(dim=0) > fast.int().sum(dim=0)).all()  # slower is paler
    beyond = flow_to_rgb(constant(10, 20), max_norm=10.0)
    assert (beyond.max(dim=0).values <= 0.75 * 255).all()


def test_flow_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"flow must be \(2, h, w\), got \(3, 2, 3\)"):
        flow_to_rgb(torch.zeros(3, 2, 3))


def test_errors_go_from_blue_to_red_and_unknown_pixels_are_black() -> None:
    error = torch.tensor([[0.0, 5.0, 50.0, torch.nan]])
    valid = torch.tensor([[True, True, True, False]])
    heat = error_to_rgb(error, valid, max_error=10.0).int()
    assert torch.equal(heat[:, 0, 2], error_to_rgb(torch.tensor([[10.0]]), max_error=10.0)[:, 0, 0].int())  # clipped
    assert heat[2, 0, 0] > heat[0, 0, 0]
    assert heat[0, 0, 2] > heat[2, 0, 2]
    assert heat[1, 0, 1] == heat[:, 0, 1].max()  # green in between
    assert not heat[:, 0, 3].any()
    with pytest.raises(ValueError, match="max_error must be positive, got 0"):
        error_to_rgb(error, valid, max_error=0.0)
