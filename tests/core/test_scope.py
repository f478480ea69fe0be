"""One mask per solve, backward included; weights computed once per solve."""

import pytest
import torch
from tests.problems import TIGHT
from torch import nn
from torch.nn.utils import parametrize

import deq_core as deq


class Cell(nn.Module):
    def __init__(self, p=0.5, shared=()):
        super().__init__()
        self.linear = nn.Linear(6, 6, dtype=torch.float64)
        self.drop = deq.nn.VariationalDropout(p, shared=shared)

    def forward(self, z, x):
        return torch.tanh(0.4 * self.drop(self.linear(z)) + x)


@pytest.fixture
def x():
    return torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def masks_of(cell):
    """The masks the cell's dropout applies, in the order of its calls."""
    seen = []
    cell.drop.register_forward_hook(lambda module, inputs, output: seen.append((output != 0).detach()))
    return seen


@pytest.mark.parametrize("adjoint", [deq.Implicit(), deq.Phantom(steps=2), deq.Unrolled()])
def test_one_mask_serves_the_solve_and_its_backward(x, adjoint):
    cell = Cell()
    seen = masks_of(cell)
    solution = deq.fixed_point(lambda z: cell(z, x), torch.zeros_like(x), adjoint=adjoint)
    forward = len(seen)
    solution.value.sum().backward()
    assert solution.converged.all()
    assert len(seen) == forward + isinstance(adjoint, deq.Implicit)
    assert all(torch.equal(mask, seen[0]) for mask in seen)
    assert 0 < seen[0].sum() < seen[0].numel()


def test_every_solve_has_its_own_mask(x):
    cell = Cell()
    seen = masks_of(cell)
    first = deq.fixed_point(lambda z: cell(z, x), torch.zeros_like(x))
    second = deq.fixed_point(lambda z: cell(z, x), torch.zeros_like(x))
    second.value.sum().backward()
    first.value.sum().backward()
    second_mask = seen[first.nfe]
    assert not torch.equal(seen[0], second_mask)
    assert torch.equal(seen[-2], second_mask)
    assert torch.equal(seen[-1], seen[0])


def test_implicit_and_unrolled_gradients_agree_under_one_mask(x):
    cell = Cell()
    found = []
    for adjoint in (deq.Implicit(stop=TIGHT), deq.Unrolled()):
        torch.manual_seed(5)
        solution = deq.fixed_point(lambda z: cell(z, x), torch.zeros_like(x), stop=TIGHT, adjoint=adjoint)
        found.append(torch.autograd.grad(solution.value.sum(), list(cell.parameters())))
    for left, right in zip(*found, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-10, atol=1e-10)


def test_a_surrounding_scope_shares_its_masks(x):
    cell = Cell()
    seen = masks_of(cell)
    with deq.solve_scope():
        solution = deq.fixed_point(lambda z: cell(z, x), torch.zeros_like(x))
        deq.fixed_point(lambda z: cell(z, x), solution.value.detach())
        deq.nn.jacobian_frobenius(lambda z: cell(z, x), solution.value)
    assert all(torch.equal(mask, seen[0]) for mask in seen)


def test_outside_a_solve_every_call_draws_anew():
    drop = deq.nn.VariationalDropout(0.5)
    x = torch.ones(4, 64)
    assert not torch.equal(drop(x), drop(x))
    assert {*drop(x).unique().tolist()} == {0.0, 2.0}


def test_shared_dimensions_are_dropped_together():
    drop = deq.nn.VariationalDropout(0.5, shared=(2, 3))
    y = drop(torch.ones(3, 8, 4, 5))
    assert torch.equal(y, y[:, :, :1, :1].expand_as(y))


def test_evaluation_mode_and_probability_zero_do_nothing():
    x = torch.ones(2, 3)
    assert deq.nn.VariationalDropout(0.0)(x) is x
    assert deq.nn.VariationalDropout(0.9).eval()(x) is x


def test_the_mask_has_the_dtype_of_what_it_masks():
    drop = deq.nn.VariationalDropout(0.5)
    assert drop(torch.ones(2, 3, dtype=torch.bfloat16)).dtype == torch.bfloat16


@pytest.mark.parametrize("p", [-0.1, 1.0])
def test_an_impossible_probability_is_refused(p):
    with pytest.raises(ValueError, match="p is the probability"):
        deq.nn.VariationalDropout(p)


class Counting(nn.Module):
    """A parametrisation that counts how often it is computed."""

    calls = 0

    def forward(self, weight):
        Counting.calls += 1
        return 0.5 * torch.tanh(weight)


@pytest.mark.parametrize(("adjoint", "blocks"), [(deq.Implicit(), 3), (deq.Phantom(steps=3), 2), (deq.Unrolled(), 1)])
def test_parametrised_weights_are_computed_once_a_block_and_get_gradients(x, adjoint, blocks):
    linear = nn.Linear(6, 6, dtype=torch.float64)
    parametrize.register_parametrization(linear, "weight", Counting())
    Counting.calls = 0
    solution = deq.fixed_point(lambda z: torch.tanh(linear(z) + x), torch.zeros_like(x), adjoint=adjoint)
    solution.value.sum().backward()
    assert Counting.calls == blocks
    assert all(parameter.grad is not None for parameter in linear.parameters())


def test_a_cached_block_around_a_solve_does_not_detach_its_weights(x):
    linear = nn.Linear(6, 6, dtype=torch.float64)
    parametrize.register_parametrization(linear, "weight", Counting())
    f = lambda z: torch.tanh(linear(z) + x)  # noqa: E731  the closure is the point
    with parametrize.cached():
        with torch.no_grad():
            linear(x)
        solution = deq.fixed_point(f, torch.zeros_like(x))
        solution.value.sum().backward()
        outer = linear.weight
        assert linear.weight is outer
    assert all(parameter.grad is not None for parameter in linear.parameters())
    assert not parametrize._cache
    assert parametrize._cache_enabled == 0
