"""What an update does with an equilibrium is a function of seed and step: unrolled depth, jitter, penalty."""

from dataclasses import replace
from typing import Any

import pytest
import torch

import deq_core as deq
from deq_core.experiment.config.optim import OptimConfig
from deq_core.experiment.config.recipe import EquilibriumRecipe, JacobianPenalty, Plan, Pretraining, between

RECIPE = EquilibriumRecipe(steps=100, batch_size=12, optim=OptimConfig(lr=1.0))
PENALTY = JacobianPenalty(weight=2.0, growth=0.5, growth_every=10)


def test_without_settings_every_update_solves_as_usual() -> None:
    usual = deq.Stop(max_steps=7, tol=1e-3)
    plans = [RECIPE.plan(0, step) for step in range(5)]
    assert set(plans) == {Plan(None, 0, 0.0)}
    assert plans[0].stop(usual) == usual


def test_depths_are_drawn_within_their_bounds_and_reach_both() -> None:
    draws = torch.Generator().manual_seed(0)
    assert {between((2, 4), draws) for _ in range(50)} == {2, 3, 4}


def test_pretraining_is_unrolled_to_a_depth_that_seed_and_step_decide() -> None:
    recipe = replace(RECIPE, pretraining=Pretraining(steps=50, depth=(2, 4)))
    depths = [recipe.plan(0, step).depth for step in range(60)]
    assert set(depths[:50]) == {2, 3, 4}
    assert set(depths[50:]) == {None}
    assert depths == [recipe.plan(0, step).depth for step in range(60)]
    assert depths != [recipe.plan(1, step).depth for step in range(60)]


def test_a_jittered_stop_has_at_least_one_evaluation() -> None:
    assert Plan(None, -5, 0.0).stop(deq.Stop(max_steps=3)).max_steps == 1
    assert Plan(None, 2, 0.0).stop(deq.Stop(max_steps=3)).max_steps == 5


def test_updates_with_a_penalty_are_jittered_or_all_are() -> None:
    recipe = replace(RECIPE, jitter=(-2, 0), jacobian=replace(PENALTY, chance=0.3))
    plans = [recipe.plan(0, step) for step in range(100)]
    assert 15 < sum(plan.penalty > 0 for plan in plans) < 45
    assert {plan.change for plan in plans if plan.penalty} == {-2, -1, 0}
    assert {plan.change for plan in plans if not plan.penalty} == {0}
    always = [replace(recipe, jittered="all").plan(0, step) for step in range(100)]
    assert {plan.change for plan in always if not plan.penalty} == {-2, -1, 0}
    assert [plan.penalty for plan in always] == [plan.penalty for plan in plans]


@pytest.mark.parametrize(
    ("counts", "weights"),
    [
        ("after_pretraining", {24: 0.0, 25: 2.0, 34: 2.0, 35: 2.5, 45: 3.0}),
        ("all", {24: 0.0, 25: 2.0, 29: 2.0, 30: 2.5, 40: 3.0}),  # 10 and 20 are of the pretraining
    ],
)
def test_the_weight_grows_by_the_updates_that_count(counts: Any, weights: dict[int, float]) -> None:
    penalty = replace(PENALTY, growth_counts=counts)
    assert {step: penalty.at(step, 25) for step in weights} == weights


def test_the_penalty_ends_where_it_should() -> None:
    assert replace(PENALTY, until=9).at(9, 0) == 0.0


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"batch_size": 6, "processes": 4}, "batch_size 6 is not a multiple of processes x accumulate = 4 x 1"),
        ({"accumulate": 0, "steps": 0}, "got steps 0, accumulate 0"),
        ({"ema": 1.0}, "ema: expected a decay of at least 0 and below 1, got 1.0"),
        ({"ema": float("nan")}, "ema: expected a decay of at least 0 and below 1, got nan"),
        ({"jitter": (1, -1)}, r"jitter must be \(least, greatest\)"),
        ({"jitter": (-1, 1)}, "jitter of penalised updates belongs to a jacobian"),
        ({"jittered": "all"}, "jittered belongs to a jitter"),
        ({"jacobian": JacobianPenalty(weight=1.0, pretraining_weight=1.0), "pretraining": None}, "to a pretraining"),
    ],
)
def test_a_recipe_that_cannot_be_followed_is_refused(change: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        replace(RECIPE, **change)


def test_a_part_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="1 <= least <= most"):
        Pretraining(steps=1, depth=(3, 2))
    with pytest.raises(ValueError, match="a chance from 0 to 1"):
        JacobianPenalty(weight=1.0, chance=2.0)
    with pytest.raises(ValueError, match="weights and a growth of at least 0"):
        JacobianPenalty(weight=1.0, growth=-0.5, growth_every=10)
