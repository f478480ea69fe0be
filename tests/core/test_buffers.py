"""An f that writes where it should not, or where others have read."""

import itertools

import pytest
import torch
from tests.problems import SOLVERS, row_wise

import deq_core as deq


def test_an_f_that_writes_into_its_argument_is_refused():
    with pytest.raises(ValueError, match="changed its argument in place"):
        deq.fixed_point(lambda z: z.mul_(0.5), torch.ones(2, 3))


def test_inference_mode_refuses_an_f_that_writes_into_its_argument():
    def in_place(z):
        return z.mul_(0.5).add_(1)

    with torch.inference_mode(), pytest.raises(ValueError, match="changed its argument in place"):
        deq.fixed_point(in_place, torch.zeros(2, 3))


def through(buffers, f):
    """f, whose images lie in the buffers, in turn."""
    turn = itertools.cycle(buffers)
    return lambda z: next(turn).copy_(f(z))


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("count", [1, 2])
def test_an_f_that_returns_its_own_buffers_is_solved_as_one_that_does_not(count, solver, mode):
    f_of, z0 = row_wise()
    f, buffers = f_of(slice(None)), [torch.empty_like(z0) for _ in range(count)]
    options = {"solver": SOLVERS[solver], "stop": deq.Stop(12, 1e-3), "record": (1, 2, 5)}
    with mode():
        expected = deq.fixed_point(f, z0, **options)
        found = deq.fixed_point(through(buffers, f), z0, **options)
        short = deq.fixed_point(through(buffers, f), z0, solver=SOLVERS[solver], stop=deq.Stop(1, None))
    for buffer in buffers:
        buffer.zero_()
    for left, right in zip((*found.trajectory, found.value), (*expected.trajectory, expected.value), strict=True):
        assert torch.equal(left, right)
    assert torch.equal(found.trace, expected.trace)
    assert torch.equal(short.value, expected.trajectory[0])


def test_an_f_that_overwrites_its_images_later_is_refused():
    """The fourth state is the best, and lies in a buffer that the seventh evaluation fills again."""
    calls = itertools.count(1)
    buffers = [torch.empty(1, 2) for _ in range(3)]
    f = through(buffers, lambda z: z / 2 + 1 if next(calls) < 5 else 3 * z)
    with torch.no_grad(), pytest.raises(ValueError, match="f overwrote the image of an earlier evaluation"):
        deq.fixed_point(f, torch.zeros(1, 2), solver=deq.FixedPointIteration(), stop=deq.Stop(9, None))


def test_an_f_that_ends_in_place_on_what_it_made_is_not_refused():
    weight = torch.randn(6, 6, generator=torch.Generator().manual_seed(0)) / 6
    f = lambda z: (z @ weight + 1).relu_()  # noqa: E731  as most cells end
    with torch.no_grad():
        found = deq.fixed_point(f, torch.zeros(2, 6), solver=deq.FixedPointIteration())
    assert found.converged.all()
