"""Forward-warped flow, and what a frame starts from: the numbers of the release, and what each start keeps."""

import numpy as np
import pytest
import torch
from scipy.interpolate import griddata
from tests.flow.parity import images, recorded, recorded_arrays, released_state

import deq_core as deq
from deq_flow.evaluation.interpolate import forward_interpolate
from deq_flow.evaluation.sequences import start_from
from deq_flow.models.compat.convert import from_released
from deq_flow.models.deq_flow import DEQFlow


def test_interpolation_is_that_of_the_release() -> None:
    arrays = recorded_arrays()
    found = forward_interpolate(torch.from_numpy(arrays["v2_b/reuse_first_low"]))
    assert torch.equal(found, torch.from_numpy(arrays["v2_b/forward_interpolate"]))


def test_between_equally_near_vectors_the_choice_is_that_of_the_release() -> None:
    """Which calls griddata; whole and half vectors land where several are as near."""
    flow = torch.randint(-6, 7, (1, 2, 23, 31)) / 2
    y, x = np.indices((23, 31))
    (u, v), target = flow[0].double().numpy(), np.stack([x, y]) + flow[0].double().numpy()
    inside = (target > 0).all(axis=0) & (target[0] < 31) & (target[1] < 23)
    expected = [griddata(target[:, inside].T, part[inside], (x, y), method="nearest") for part in (u, v)]
    np.testing.assert_array_equal(forward_interpolate(flow)[0].numpy(), np.stack(expected))


def test_every_sample_of_a_batch_is_carried_by_itself() -> None:
    flow = 3 * torch.randn(3, 2, 7, 9)
    together = forward_interpolate(flow)
    assert torch.equal(together, torch.cat([forward_interpolate(one[None]) for one in flow]))


def test_a_constant_flow_stays_as_it_is() -> None:
    flow = torch.tensor([2.0, -1.0])[None, :, None, None].expand(1, 2, 6, 8)
    assert torch.equal(forward_interpolate(flow), flow)


def test_every_cell_gets_the_vector_that_lands_nearest() -> None:
    flow = 4 * torch.randn(1, 2, 6, 8)
    y, x = torch.meshgrid(torch.arange(6), torch.arange(8), indexing="ij")
    cells = torch.stack([x, y], dim=-1).reshape(-1, 2).double()
    vectors = flow[0].flatten(1).T.double()
    target = cells + vectors
    inside = ((target > 0) & (target < torch.tensor([8, 6]))).all(dim=1)
    assert 0 < int(inside.sum()) < len(inside)
    nearest = torch.cdist(cells, target[inside]).argmin(dim=1)
    expected = vectors[inside][nearest].T.reshape(1, 2, 6, 8)
    assert torch.equal(forward_interpolate(flow), expected.float())


def test_vectors_that_leave_the_frame_are_forgotten_and_replaced_by_the_nearest() -> None:
    flow = torch.zeros(1, 2, 5, 10)
    flow[0, 0, :, 5:] = 20.0  # the right half leaves
    assert torch.equal(forward_interpolate(flow), torch.zeros_like(flow))
    assert torch.equal(forward_interpolate(torch.full((1, 2, 5, 10), 50.0)), torch.zeros_like(flow))


def test_a_batch_without_two_components_is_refused() -> None:
    with pytest.raises(ValueError, match=r"flow must be \(b, 2, h, w\), got \(2, 5, 6\)"):
        forward_interpolate(torch.zeros(2, 5, 6))


@pytest.mark.parametrize(("start", "run"), [("warm", "warm"), ("reuse_interpolated", "reuse")])
def test_warm_start_and_reuse_are_those_of_the_release(start, run: str) -> None:
    model = from_released(released_state("v2_b"), stop=deq.Stop(8, tol=None), eval_stop=None)
    assert isinstance(model, DEQFlow)
    with torch.no_grad():
        first = model(*images())
        second = model(*images("flow/img2"), *(start_from(start, first.states) or ()))
    arrays = recorded_arrays()
    noise = 10 * recorded("reference")["forward"]["v2_b"]["naive12"]["noise_low"]
    np.testing.assert_allclose(second.flow_low, arrays[f"v2_b/{run}_low"], rtol=0, atol=noise)


def test_each_start_keeps_what_it_says() -> None:
    states = tuple((torch.randn(1, 4, size, 8), torch.randn(1, 2, size, 8)) for size in (3, 6))
    assert start_from("cold", states) is None
    assert all(start_from(start, None) is None for start in ("cold", "warm", "reuse", "reuse_interpolated"))
    assert start_from("reuse", states) == states
    for state, warm, reused in zip(
        states, start_from("warm", states) or (), start_from("reuse_interpolated", states) or (), strict=True
    ):
        carried = forward_interpolate(state[1])
        assert torch.equal(warm[0], torch.zeros_like(state[0]))
        assert torch.equal(reused[0], state[0])
        assert torch.equal(warm[1], carried)
        assert torch.equal(reused[1], carried)
