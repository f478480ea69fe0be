"""What a command's options change of a recipe, and that they change nothing else."""

from dataclasses import replace
from typing import Any, get_args

import pytest

import deq_core as deq
from deq_core.experiment import config
from deq_core.experiment.config import ConfigError
from deq_core.experiment.config.layer import ImplicitConfig, LayerConfig, StopConfig
from deq_core.experiment.config.optim import OptimConfig
from deq_core.experiment.config.recipe import EquilibriumRecipe, Pretraining
from deq_core.experiment.options import AdjointKind, Options, SolverKind

RECIPE = EquilibriumRecipe(
    steps=100, batch_size=8, optim=OptimConfig(lr=1e-3, warmup=5), pretraining=Pretraining(steps=80, depth=(2, 5))
)
LAYER = LayerConfig(
    solver=deq.Anderson(window=3),
    stop=StopConfig(max_steps=8, tol=1e-2),
    eval_stop=StopConfig(max_steps=16, tol=1e-2),
    adjoint=deq.Phantom(steps=2, damping=0.5),
)


@pytest.mark.parametrize(
    ("given", "changed"),
    [
        ({}, RECIPE),
        ({"lr": 0.5, "threads": 2}, replace(RECIPE, optim=replace(RECIPE.optim, lr=0.5), threads=2)),
        ({"batch_size": 4, "device": "cuda"}, replace(RECIPE, batch_size=4, device="cuda")),
        ({"steps": 50}, replace(RECIPE, steps=50, pretraining=Pretraining(steps=40, depth=(2, 5)))),
        ({"network": "any", "solver": "broyden", "max_steps": 3}, RECIPE),
    ],
)
def test_an_option_changes_its_number_of_a_recipe_and_a_pretraining_keeps_its_share(
    given: dict[str, Any], changed: EquilibriumRecipe
) -> None:
    assert Options(**given).of_recipe(RECIPE) == changed


@pytest.mark.parametrize(
    ("given", "changed"),
    [
        ({}, LAYER),
        ({"solver": "anderson", "adjoint": "phantom"}, LAYER),
        ({"solver": "broyden"}, replace(LAYER, solver=deq.Broyden())),
        ({"max_steps": 4}, replace(LAYER, stop=StopConfig(max_steps=4, tol=1e-2), eval_stop=None)),
        ({"tolerance": 0.5}, replace(LAYER, stop=StopConfig(max_steps=8, tol=0.5), eval_stop=None)),
        (
            {"solver": "broyden", "adjoint": "implicit", "max_steps": 5},
            LayerConfig(
                solver=deq.Broyden(),
                stop=StopConfig(max_steps=5, tol=1e-2),
                adjoint=ImplicitConfig(solver=deq.Broyden(), stop=StopConfig(max_steps=5, tol=1e-2)),
            ),
        ),
    ],
)
def test_a_choice_of_the_kind_that_is_there_keeps_its_numbers_and_another_has_its_defaults(
    given: dict[str, Any], changed: LayerConfig
) -> None:
    assert Options(**given).of_layer(LAYER) == changed


def test_every_solver_and_gradient_of_a_recipe_has_an_option() -> None:
    for solver in get_args(SolverKind):
        same: dict[str, Any] = {"adjoint": "reversible"} if solver == "reversible" else {}
        assert Options(solver=solver, **same).of_layer(LAYER).solver.kind == solver
    for adjoint in get_args(AdjointKind):
        same = {"solver": "reversible"} if adjoint == "reversible" else {}
        assert Options(adjoint=adjoint, **same).of_layer(LAYER).adjoint.kind == adjoint
    mapping = config.schema(LayerConfig)["properties"]
    linear = {"gmres", "conjugate_residual"}  # of a backward solve alone
    assert set(mapping["solver"]["discriminator"]["mapping"]) - linear == set(get_args(SolverKind))
    assert set(mapping["adjoint"]["discriminator"]["mapping"]) == set(get_args(AdjointKind))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lr": -1.0}, r"options: optim: lr: expected a number above 0, got -1\.0"),
        ({"steps": 0}, r"expected steps, .* of at least 1, got steps 0"),
    ],
)
def test_what_does_not_fit_is_said_by_name(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Options(**given).of_recipe(RECIPE)


def test_an_unrolled_network_refuses_what_only_a_layer_has() -> None:
    with pytest.raises(ConfigError, match=r"--solver, --tolerance: raft is unrolled"):
        Options(solver="broyden", tolerance=0.1, max_steps=3).require_layer("raft")
    Options(max_steps=3, steps=2).require_layer("raft")
