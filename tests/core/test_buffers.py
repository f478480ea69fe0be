"""An f that writes where it should not, or where others have read."""

import itertools

import pytest
import torch
from tests.problems import SOLVERS, row_wise

import deq_core as deq


@pytest.mark.parametrize(
    "call",
    [
        deq.fixed_point,
        deq.compat.released_fixed_point,
        lambda f, z: deq.fixed_point(torch.cos, z, check=f),
        deq.part_residuals,
        deq.nn.spectral_radius,
        deq.nn.contraction,
    ],
)
def test_an_f_that_writes_into_its_argument_is_refused(call):
    with torch.no_grad(), pytest.raises(ValueError, match="changed its argument in place"):
        call(lambda z: z.mul_(0.5), torch.ones(2, 3))


def test_inference_mode_refuses_an_f_that_writes_into_its_argument():
    def in_place(z):
        return z.mul_(0.5).add_(1)

    with torch.inference_mode(), pytest.raises(ValueError, match="changed its argument in place"):
        deq.fixed_point(in_place, torch.zeros(2, 3))


def through(buffers, f):
    """f, whose results lie in the buffers, in turn."""
    turn = itertools.cycle(buffers)
    return lambda z: next(turn).copy_(f(z))


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_an_f_that_returns_a_buffer_of_its_own_is_solved_as_one_that_does_not(solver, mode):
    f_of, z0 = row_wise()
    f, buffer = f_of(slice(None)), torch.empty_like(z0)
    options = {"solver": SOLVERS[solver], "stop": deq.Stop(12, None), "record": (1, 2, 5)}
    with mode():
        expected = deq.fixed_point(f, z0, **options)
        found = deq.fixed_point(through([buffer], f), z0, **options)
        short = deq.fixed_point(through([buffer], f), z0, solver=SOLVERS[solver], stop=deq.Stop(1, None))
    buffer.zero_()
    for left, right in zip((*found.trajectory, found.value), (*expected.trajectory, expected.value), strict=True):
        assert torch.equal(left, right)
    assert torch.equal(found.trace, expected.trace)
    assert torch.equal(short.value, expected.trajectory[0])


@pytest.mark.parametrize(
    "call",
    [
        lambda f, z: deq.compat.released_fixed_point(f, z, solver=deq.FixedPointIteration()).value,
        lambda f, z: deq.compat.released_fixed_point(f, z, solver=deq.Broyden()).value,
        lambda f, z: deq.nn.spectral_radius(f, z, generator=torch.Generator().manual_seed(0)),
        lambda f, z: deq.nn.contraction(f, z, bound=0, generator=torch.Generator().manual_seed(0)),
    ],
)
def test_other_measures_of_an_f_that_returns_a_buffer_are_those_of_one_that_does_not(call):
    f_of, z0 = row_wise()
    f = f_of(slice(None))
    with torch.no_grad():
        assert torch.equal(call(through([torch.empty_like(z0)], f), z0), call(f, z0))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("count", [2, 3, 7])
def test_an_f_that_fills_several_buffers_in_turn_is_refused(count, mode):
    """As soon as it comes back to the first: until then no state that is still in use was overwritten."""
    f_of, z0 = row_wise()
    calls = itertools.count(1)
    ring = through([torch.empty_like(z0) for _ in range(count)], f_of(slice(None)))
    with mode(), pytest.raises(ValueError, match="f overwrote what an earlier call returned"):
        deq.fixed_point(lambda z: (next(calls), ring(z))[1], z0, stop=deq.Stop(9, None))
    assert next(calls) == count + 2


def test_an_f_that_returns_the_same_tensor_is_not_refused():
    image = torch.ones(2, 3)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert torch.equal(deq.fixed_point(lambda z: image, torch.zeros(2, 3), stop=deq.Stop(5, None)).value, image)
            found = deq.fixed_point(lambda z: z, torch.zeros(2, 3), stop=deq.Stop(5, None, relative=False))
            assert found.residual.eq(0).all()


def test_an_f_that_ends_in_place_on_what_it_made_is_not_refused():
    weight = torch.randn(6, 6, generator=torch.Generator().manual_seed(0)) / 6
    f = lambda z: (z @ weight + 1).relu_()  # noqa: E731  as most cells end
    with torch.no_grad():
        found = deq.fixed_point(f, torch.zeros(2, 6), solver=deq.FixedPointIteration())
    assert found.converged.all()
