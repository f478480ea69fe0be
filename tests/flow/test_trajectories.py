"""When elements settle, and the directions in which states move."""

import math

import numpy as np
import pytest
import torch

from deq_flow.studies.delta.trajectories import (
    components_needed,
    convergence_steps,
    distribution,
    explained_variance,
    histogram,
)


def decaying(rates: torch.Tensor, steps: int) -> torch.Tensor:
    """(steps, ...) of rates ** 1, rates ** 2, ..."""
    return rates ** torch.arange(1, steps + 1, dtype=torch.float64).reshape(-1, *[1] * rates.dim())


@pytest.mark.parametrize("criterion", ["first", "lasting"])
def test_a_decaying_element_settles_where_its_formula_says(criterion) -> None:
    rates, bound, steps = torch.tensor([0.2, 0.5, 0.8, 0.9], dtype=torch.float64), 1e-3, 60
    # r^k (1 - r) <= bound from k = log(bound / (1 - r)) / log r on
    expected = [math.ceil(math.log(bound / (1 - rate)) / math.log(rate)) for rate in rates.tolist()]
    assert convergence_steps(decaying(rates, steps), bound, criterion).tolist() == expected


def test_a_pause_is_convergence_only_by_the_first_small_change() -> None:
    states = torch.tensor([0.0, 1.0, 1.0, 2.0, 2.0, 2.0])[:, None]
    assert convergence_steps(states, 0.1, "first").tolist() == [2]
    assert convergence_steps(states, 0.1, "lasting").tolist() == [4]


def test_what_never_settles_is_counted_at_the_last_step() -> None:
    states = torch.tensor([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    assert convergence_steps(states, 0.5).tolist() == [3, 1]
    assert distribution(convergence_steps(states, 0.5), 3)["unsettled"] == 0.5


def test_the_first_small_change_never_comes_later_than_the_lasting_one() -> None:
    states = torch.randn(12, 50, 7).cumsum(0)
    first, lasting = (convergence_steps(states, 0.5, criterion) for criterion in ("first", "lasting"))
    assert (first <= lasting).all()
    assert (first < lasting).any()


def test_each_element_may_have_a_bound_of_its_own() -> None:
    states = torch.stack([torch.zeros(2), torch.ones(2), torch.ones(2)])
    assert convergence_steps(states, torch.tensor([0.5, 2.0])).tolist() == [2, 1]


def test_a_single_state_has_no_change() -> None:
    with pytest.raises(ValueError, match="at least 2 states, got 1"):
        convergence_steps(torch.zeros(1, 3), 0.1)


def test_percentiles_are_those_of_numpy() -> None:
    steps = torch.randint(1, 21, (997,))
    found = distribution(steps, 20)
    for part in (5, 50, 95):
        assert found[f"p{part}"] == np.percentile(steps.numpy(), part, method="inverted_cdf")
    assert float(histogram(steps, 20).sum()) == pytest.approx(1)
    assert float(histogram(steps, 20)[4]) == (steps == 5).double().mean()


def test_the_variance_explained_is_that_of_singular_values() -> None:
    points = torch.randn(40, 6, dtype=torch.float64) @ torch.randn(6, 6, dtype=torch.float64) + 3
    values = torch.linalg.svdvals(points - points.mean(0))
    torch.testing.assert_close(explained_variance(points), values.square() / values.square().sum())


def test_points_on_a_line_need_one_component() -> None:
    line = torch.linspace(-1, 1, 9, dtype=torch.float64)[:, None] * torch.tensor([[3.0, 0.0, -4.0]]).double() + 7
    found = explained_variance(line)
    torch.testing.assert_close(found, torch.tensor([1.0, 0, 0], dtype=torch.float64))
    assert components_needed(found) == 1
    assert components_needed(torch.tensor([0.6, 0.38, 0.02])) == 3
    assert (explained_variance(torch.ones(4, 2)) == 0).all()
