"""Schedules agree with torch's and with the released training, and every option reaches the optimiser."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from deq_core.experiment.config.optim import OptimConfig
from deq_core.experiment.training.optim import build, learning_rate


def rates(config: OptimConfig, steps: int) -> list[float]:
    return [learning_rate(config, step, steps) for step in range(steps)]


@pytest.mark.parametrize("steps", [1, 7, 300, 1000])
def test_onecycle_is_torch_s(steps: int) -> None:
    config = OptimConfig(lr=4e-4, schedule="onecycle")
    optimizer = build(config, [nn.Parameter(torch.zeros(1))])
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, config.lr, steps + 100, pct_start=0.05, cycle_momentum=False, anneal_strategy="linear"
    )
    for rate in rates(config, steps):
        assert rate == pytest.approx(theirs.get_last_lr()[0], rel=1e-12)
        optimizer.step()
        theirs.step()


def test_onecycle_is_the_released_run_s() -> None:
    """DEQ-Flow on FlyingThings, 120,000 steps at 1.25e-4: rates measured on the released code."""
    found = rates(OptimConfig(lr=1.25e-4, schedule="onecycle"), 120_000)
    assert found[0] == pytest.approx(5.000e-6, abs=5e-10)
    assert found[99] == pytest.approx(6.979e-6, abs=5e-10)
    assert max(range(len(found)), key=found.__getitem__) == 6004
    assert found[6004] == pytest.approx(1.25e-4, rel=1e-12)
    assert learning_rate(OptimConfig(lr=1.25e-4, schedule="onecycle"), 120_099, 120_000) == pytest.approx(5e-10)


@pytest.mark.parametrize("floor", [0.0, 0.01])
def test_cosine_is_torch_s(floor: float) -> None:
    config = OptimConfig(lr=0.3, schedule="cosine", floor=floor)
    optimizer = build(config, [nn.Parameter(torch.zeros(1))])
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 50, eta_min=floor)
    for rate in rates(config, 50):
        assert rate == pytest.approx(theirs.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        theirs.step()


def test_whole_cosine_is_the_closed_form_over_all_steps_once_warm() -> None:
    config = OptimConfig(lr=0.3, schedule="whole_cosine", warmup=4)
    found = [learning_rate(config, step, 10) for step in range(11)]
    assert found[:4] == [0.3 * (step + 1) / 4 for step in range(4)]
    for step in range(4, 11):
        assert found[step] == pytest.approx(0.15 * (1 + math.cos(math.pi * step / 10)), abs=1e-12)


@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_a_warmup_rises_linearly_to_the_peak(schedule: Any) -> None:
    found = rates(OptimConfig(lr=0.5, schedule=schedule, warmup=4), 12)
    if schedule == "constant":
        assert found == pytest.approx([0.125, 0.25, 0.375] + [0.5] * 9)
    else:
        assert found[:5] == pytest.approx([0.125, 0.25, 0.375, 0.5, 0.5])
        assert found[4:] == pytest.approx([0.25 * (1 + math.cos(math.pi * step / 8)) for step in range(8)])


@pytest.mark.parametrize(
    ("config", "kind", "options"),
    [
        (
            OptimConfig(name="adamw", lr=0.1, weight_decay=0.2, betas=(0.5, 0.6), eps=1e-3),
            torch.optim.AdamW,
            {"lr": 0.1, "weight_decay": 0.2, "betas": (0.5, 0.6), "eps": 1e-3},
        ),
        (OptimConfig(name="adam", lr=0.1, weight_decay=0.2), torch.optim.Adam, {"weight_decay": 0.2, "eps": 1e-8}),
        (OptimConfig(name="sgd", lr=0.1, momentum=0.9), torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    ],
)
def test_options_reach_the_optimiser(config: OptimConfig, kind: type, options: dict[str, Any]) -> None:
    optimizer = build(config, [nn.Parameter(torch.zeros(1))])
    assert type(optimizer) is kind
    assert {name: optimizer.param_groups[0][name] for name in options} == options


def test_frozen_parameters_are_left_out() -> None:
    frozen, free = nn.Parameter(torch.zeros(1), requires_grad=False), nn.Parameter(torch.zeros(1))
    optimizer = build(OptimConfig(lr=1.0), [frozen, free])
    assert optimizer.param_groups[0]["params"] == [free]
    with pytest.raises(ValueError, match="at least one parameter"):
        build(OptimConfig(lr=1.0), [frozen])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"lr": 0.0}, "lr: expected a number above 0, got 0.0"),
        ({"lr": 1.0, "weight_decay": -1.0}, "weight_decay"),
        ({"lr": 1.0, "clip": 0.0}, "clip"),
        ({"lr": 1.0, "warmup": 5, "schedule": "onecycle"}, "warmup"),
        ({"lr": 1.0, "betas": (0.9, 1.0)}, "betas: expected two numbers of at least 0 and below 1"),
        ({"lr": 1.0, "eps": -1e-8}, "eps: expected a number of at least 0"),
        ({"lr": 1.0, "name": "sgd", "momentum": -0.9}, "momentum: expected a number of at least 0"),
        ({"lr": 1.0, "momentum": 0.9}, "momentum: belongs to sgd"),
        ({"lr": 1.0, "name": "sgd", "nesterov": True}, "nesterov: belongs to sgd with momentum"),
        ({"lr": 1.0, "name": "sgd", "betas": (0.9, 0.99)}, "betas and eps: belong to adamw and adam"),
        ({"lr": 1.0, "name": "sgd", "eps": 1e-6}, "betas and eps: belong to adamw and adam"),
        ({"lr": 1.0, "floor": 0.1}, "floor: belongs to cosine"),
        ({"lr": 1.0, "schedule": "cosine", "floor": 2.0}, "from 0 to lr"),
    ],
)
def test_an_impossible_recipe_is_refused_at_once(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        OptimConfig(**options)
