"""Colours of flow and errors."""

from pathlib import Path

import numpy as np
import pytest
import torch

from deq_flow.visualize import colour_wheel, flow_to_rgb

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


@pytest.mark.parametrize("unknown", [1.666666752e9, -1e10, torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("component", [0, 1])
@pytest.mark.parametrize("max_norm", [None, 10.0])
def test_unknown_motion_is_black_and_changes_no_other_colour(
    unknown: float, component: int, max_norm: float | None
) -> None:
    flow = torch.zeros(2, 1, 3)
    flow[0] = 10.0
    flow[component, 0, 2] = unknown
    assert flow_to_rgb(flow, max_norm)[:, 0].T.tolist() == [[255, 0, 0], [255, 0, 0], [0, 0, 0]]


def test_a_flow_of_which_nothing_is_known_is_black() -> None:
    assert not flow_to_rgb(torch.full((2, 2, 3), torch.nan)).any()
