"""Where the next frame's solve starts."""

import pytest
import torch

import deq_core as deq


def zeros(batch=2, width=3):
    return torch.zeros(batch, width), torch.zeros(batch, 2, width, dtype=torch.float64)


def test_the_first_frame_starts_from_the_fallback():
    fallback = zeros()
    assert deq.warm_start(None, fallback) is fallback


def test_the_previous_state_is_used_detached_and_in_the_fallbacks_dtype():
    previous = (torch.ones(2, 3, dtype=torch.float64, requires_grad=True), torch.full((2, 2, 3), 2.0))
    start = deq.warm_start(previous, zeros())
    assert [leaf.dtype for leaf in start] == [torch.float32, torch.float64]
    assert not any(leaf.requires_grad for leaf in start)
    assert torch.equal(start[0], torch.ones(2, 3))
    assert torch.equal(start[1], torch.full((2, 2, 3), 2.0, dtype=torch.float64))


@pytest.mark.parametrize("previous", [zeros(batch=3), zeros(width=4)])
def test_a_change_of_size_starts_afresh(previous):
    fallback = zeros()
    assert deq.warm_start(previous, fallback) is fallback


def test_a_sample_that_failed_starts_afresh_alone():
    hidden, flow = torch.ones(2, 3), torch.ones(2, 2, 3)
    flow[0, 1, 2] = torch.inf
    start = deq.warm_start((hidden, flow), zeros())
    assert torch.equal(start[0], torch.tensor([[0.0] * 3, [1.0] * 3]))
    assert start[1][0].eq(0).all()
    assert start[1][1].eq(1).all()


def test_another_structure_is_refused():
    with pytest.raises(TypeError, match="trees of the same structure"):
        deq.warm_start(torch.zeros(2, 3), zeros())


def test_a_warm_start_needs_fewer_steps():
    weight = torch.randn(8, 8, generator=torch.Generator().manual_seed(0)) * 0.25
    x = torch.randn(4, 8, generator=torch.Generator().manual_seed(1))

    def solve(x, previous):
        start = deq.warm_start(previous, torch.zeros_like(x))
        return deq.fixed_point(lambda z: torch.tanh(z @ weight + x), start)

    first = solve(x, None)
    cold, warm = solve(x + 0.01, None), solve(x + 0.01, first.value)
    assert (warm.steps < cold.steps).all()
    torch.testing.assert_close(warm.value, cold.value, rtol=0, atol=1e-3)
