"""The contraction penalty: what it measures, along what, and where there is nothing to measure."""

import math

import pytest
import torch

import deq_core as deq


def numbers(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_the_ratio_of_a_linear_map_is_that_of_its_matrix_along_the_direction():
    weight, z, direction = numbers(6, 6), numbers(3, 6, seed=1), numbers(3, 6, seed=2)
    f = lambda z: z @ weight.T  # noqa: E731
    exact = (direction @ weight.T).norm(dim=1) / direction.norm(dim=1)
    ratio = deq.nn.contraction(f, z, direction=direction, bound=0.0)
    torch.testing.assert_close(ratio, exact)
    torch.testing.assert_close(deq.nn.contraction(f, z, direction=1e-9 * direction, bound=0.0), exact)
    bound = float(exact.median())
    torch.testing.assert_close(deq.nn.contraction(f, z, direction=direction, bound=bound), (exact - bound).clamp_min(0))
    random = deq.nn.contraction(f, z, bound=0.0, generator=torch.Generator().manual_seed(0))
    assert (random <= torch.linalg.matrix_norm(weight, 2)).all()
    assert torch.equal(random, deq.nn.contraction(f, z, bound=0.0, generator=torch.Generator().manual_seed(0)))


def by_parts(x, z, weights, floors):
    """The length of x as the docstring has it, (B,)."""
    total = torch.zeros(len(x[0]), dtype=x[0].dtype)
    for part, own, weight, floor in zip(x, z, weights, floors, strict=True):
        least = floor * math.sqrt(own[0].numel())
        total = total + (weight * part.flatten(1).norm(dim=1) / own.flatten(1).norm(dim=1).clamp_min(least)) ** 2
    return total.sqrt()


@pytest.mark.parametrize("given", [True, False])
def test_lengths_are_by_part_and_f_is_evaluated_that_far_away(given):
    z = 100 * numbers(3, 4, 2, 2), numbers(3, 2, 2, 2, seed=1)
    direction = (numbers(3, 4, 2, 2, seed=2), numbers(3, 2, 2, 2, seed=3)) if given else None
    weights, floors, seen = (1.0, 3.0), (0.0, 5.0), []

    def f(hidden, flow):
        seen.append((hidden, flow))
        return 0.3 * hidden + 10 * flow.mean((1, 2, 3), keepdim=True), 0.9 * flow + 0.01 * hidden[:, :2]

    ratio = deq.nn.contraction(f, z, f(*z), direction=direction, weights=weights, floors=floors, bound=0.0)
    assert len(seen) == 2  # one by the penalty
    moved = [there - here for there, here in zip(seen[1], z, strict=True)]
    lengths = [by_parts(x, z, weights, floors) for x in (moved, z)]
    torch.testing.assert_close(lengths[0], 0.05 * lengths[1])
    change = [there - here for there, here in zip(f(*seen[1]), f(*z), strict=True)]
    torch.testing.assert_close(ratio, by_parts(change, z, weights, floors) / lengths[0])
    if not given:  # a random direction moves both
        for part, own in zip(moved, z, strict=True):
            assert (part.flatten(1).norm(dim=1) > 0.01 * own.flatten(1).norm(dim=1)).all()


def test_every_sample_is_measured_as_if_it_were_alone():
    z, direction = (numbers(3, 4), numbers(3, 2, seed=1)), (numbers(3, 4, seed=2), numbers(3, 2, seed=3))
    f = lambda hidden, flow: (torch.tanh(2 * hidden), flow + hidden[:, :2])  # noqa: E731
    together = deq.nn.contraction(f, z, direction=direction, bound=0.0)
    for i in range(3):
        own, along = (tuple(part[i : i + 1] for part in tree) for tree in (z, direction))
        torch.testing.assert_close(deq.nn.contraction(f, own, direction=along, bound=0.0), together[i : i + 1])


def test_its_gradient_reaches_what_f_closes_over_and_nothing_else():
    weight = (0.8 * numbers(5, 5)).requires_grad_()
    z, direction = numbers(2, 5, seed=1).requires_grad_(), numbers(2, 5, seed=2).requires_grad_()

    def penalty(weight):
        return deq.nn.contraction(lambda z: torch.tanh(z @ weight.T), z, direction=direction, bound=0.1)

    assert (penalty(weight) > 0).all()
    assert torch.autograd.gradcheck(penalty, (weight,))
    assert torch.autograd.grad(penalty(weight).sum(), (z, direction), allow_unused=True) == (None, None)


def test_it_sees_what_f_detaches():
    scale = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    f = lambda hidden, flow: (0.5 * hidden, scale * flow.detach())  # noqa: E731
    z = numbers(2, 3), numbers(2, 3, seed=1)
    direction = torch.zeros_like(z[0]), z[1]
    penalty = deq.nn.contraction(f, z, direction=direction)
    torch.testing.assert_close(penalty, torch.full((2,), 0.8, dtype=torch.float64))
    (slope,) = torch.autograd.grad(penalty.mean(), scale)
    assert slope == pytest.approx(1.0)


def test_nothing_to_measure_is_no_penalty_and_no_gradient():
    """Sample 0 is ordinary; 1 has no direction, 2 is all zeros, 3 has a zero part, 4 is left as it is by f."""
    weight = torch.full((), 2.0, dtype=torch.float64, requires_grad=True)
    h, c = numbers(5, 3), numbers(5, 2, seed=1)
    h[2], c[2], c[3] = 0, 0, 0
    direction = numbers(5, 3, seed=2), numbers(5, 2, seed=3)
    for part in direction:
        part[1] = 0

    def f(h, c):
        slope = torch.where(torch.arange(5)[:, None] == 4, 0.0, weight)
        return slope * h, slope * c + (c[:, :1] == 0) * 1e6 * h[:, :2]  # what a part of length 0 does not count

    penalty = deq.nn.contraction(f, (h, c), direction=direction)
    torch.testing.assert_close(penalty, torch.tensor([1.3, 0.0, 0.0, 1.3, 0.0], dtype=torch.float64))
    (slope,) = torch.autograd.grad(penalty.sum(), weight)
    assert slope == pytest.approx(2.0)
    assert torch.equal(deq.nn.contraction(f, (h, c), direction=direction, weights=(0, 0)), torch.zeros(5))


def test_a_floor_measures_parts_that_are_nearly_zero_in_their_own_unit():
    f = lambda h, c: (0.5 * h, 0.5 * c + 0.1 * h)  # noqa: E731
    z = torch.ones(1, 4), torch.full((1, 4), 1e-6)
    direction = torch.ones(1, 4), torch.zeros(1, 4)
    assert deq.nn.contraction(f, z, direction=direction) > 1e4
    floored = deq.nn.contraction(f, z, direction=direction, floors=(0.0, 1.0), bound=0.0)
    torch.testing.assert_close(floored, torch.tensor([math.hypot(0.5, 0.1)]), rtol=1e-4, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
def test_half_precision_measures_nearly_the_same(dtype, autocast):
    layer = torch.nn.Linear(32, 32)
    z, direction = numbers(4, 32, dtype=torch.float32), numbers(4, 32, seed=1, dtype=torch.float32)
    f = lambda z: 3 * layer(1e3 * z)  # noqa: E731  squares of f(z) have no number in float16
    exact = deq.nn.contraction(f, z, direction=direction, bound=0.1)
    if autocast:
        with torch.autocast("cpu", dtype):
            found = deq.nn.contraction(f, z, direction=direction, bound=0.1)
    else:
        layer.to(dtype)
        found = deq.nn.contraction(f, z.to(dtype), direction=direction.to(dtype), bound=0.1)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, rtol=0.15, atol=0)
    slopes = torch.autograd.grad(found.sum(), tuple(layer.parameters()))
    assert all(slope.isfinite().all() for slope in slopes)


def test_both_evaluations_see_one_dropout_mask():
    drop = deq.nn.VariationalDropout(0.5)
    f = lambda z: drop(z + 100)  # noqa: E731  two masks would differ by far more than f does
    assert (deq.nn.contraction(f, numbers(4, 50)) < 2).all()
    with deq.solve_scope():
        z = numbers(4, 50)
        assert (deq.nn.contraction(f, z, f(z)) < 2).all()


def test_descending_the_penalty_makes_a_map_contract():
    torch.manual_seed(0)
    layer = torch.nn.Linear(16, 16, bias=False)
    with torch.no_grad():
        layer.weight.mul_(3)
    inject = torch.randn(8, 16)
    f = lambda z: torch.tanh(layer(z) + inject)  # noqa: E731
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.02)
    for _ in range(60):
        with torch.no_grad():
            states = [torch.zeros(8, 16)]
            for _ in range(8):
                states.append(f(states[-1]))
        penalty = deq.nn.contraction(f, states[-1], direction=states[-1] - states[-2]).mean()
        optimiser.zero_grad()
        penalty.backward()
        optimiser.step()
    plain = deq.fixed_point(f, torch.zeros(8, 16), solver=deq.FixedPointIteration(), stop=deq.Stop(40, 1e-4))
    assert plain.converged.all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bound": -0.1}, "bound must be at least 0"),
        ({"step": 0.0}, "step above 0"),
        ({"weights": (1.0,)}, r"weights must be one number.*state\[0\], state\[1\]"),
        ({"floors": (0.0, -1.0)}, "floors must be one number, at least 0"),
        ({"direction": torch.zeros(2, 3)}, "direction must have the structure"),
        ({"fz": (torch.zeros(2, 3), torch.zeros(2, 4))}, "fz must have the structure, shapes"),
    ],
)
def test_impossible_settings_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        deq.nn.contraction(lambda a, b: (a, b), (torch.ones(2, 3), torch.ones(2, 3)), **options)
