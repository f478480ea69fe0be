"""Every field of a layer's configuration, of its solvers and gradients, reaches the solve; of updates, the training."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.changes import least, lost, members, watched
from tests.core.experiment.lesson import batches, network, objective
from torch import Tensor, nn

import deq_core as deq
from deq_core.experiment.config.layer import Adjoint, ImplicitConfig, LayerConfig, Solver, StopConfig
from deq_core.experiment.config.optim import Every, OptimConfig
from deq_core.experiment.config.recipe import Updates
from deq_core.experiment.training.fit import fit

STOP = StopConfig(max_steps=7, tol=1e-12)
FORWARD = deq.Anderson(window=3)
BACKWARD = ImplicitConfig(solver=FORWARD, stop=StopConfig(max_steps=6, tol=0.3))


def solved(config: LayerConfig) -> list[Tensor]:
    """A solve in training and one in evaluation, with gradients, of a map whose samples are more and less difficult."""
    layer = config.build()
    generator = torch.Generator().manual_seed(0)
    weight, x = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((6, 6), (16, 6)))
    weight.requires_grad_()
    found = []
    for training in (True, False):
        layer.train(training)
        solution = layer(lambda z: 1.5 * torch.sin(z @ weight.T + 2 * x), torch.zeros_like(x))
        (gradient,) = torch.autograd.grad(solution.value.pow(3).sum(), weight)
        found += [solution.value.detach(), solution.trace, gradient]
    return [one.tolist() for one in found]


@pytest.mark.parametrize("kind", members(Solver), ids=lambda kind: kind.__name__)
def test_every_field_of_a_solver_changes_the_solve(kind: Any) -> None:
    solver: Any = least(kind)
    adjoint: Any = solver if kind is deq.Reversible else BACKWARD
    longer = replace(STOP, max_steps=9)
    assert lost(LayerConfig(solver=solver, stop=STOP, adjoint=adjoint, eval_stop=longer), solved) == []


@pytest.mark.parametrize("kind", members(Adjoint), ids=lambda kind: kind.__name__)
def test_every_field_of_a_gradient_changes_the_solve(kind: Any) -> None:
    adjoint = BACKWARD if kind is ImplicitConfig else least(kind)
    solver: Any = adjoint if kind is deq.Reversible else FORWARD
    assert lost(LayerConfig(solver=solver, stop=STOP, adjoint=adjoint), solved) == []


@pytest.mark.parametrize(
    "optim",
    [
        OptimConfig(lr=2e-2, clip=0.5),
        OptimConfig(lr=2e-2, schedule="onecycle"),
        OptimConfig(lr=2e-2, schedule="cosine", warmup=1, floor=1e-3),
        OptimConfig(name="sgd", lr=2e-2, momentum=0.5, nesterov=True, weight_decay=0.1),
    ],
    ids=["clipped", "onecycle", "cosine", "sgd"],
)
def test_every_field_of_updates_changes_the_training(
    optim: OptimConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(updates: Updates) -> object:
        shutil.rmtree(tmp_path / "scratch", ignore_errors=True)
        model = network(torch.float32)
        history = fit(model, batches, objective, updates, seed=7, scratch=tmp_path / "scratch", evaluate=mean)
        return history, [tensor.tolist() for tensor in model.state_dict().values()]

    monkeypatch.setattr("deq_core.experiment.training.averaging.BATCHES", 2)
    monkeypatch.setattr(watched, "folders", [tmp_path / "scratch"])
    updates = Updates(optim=optim, steps=3, every=Every(checkpoint=3, evaluate=3), ema=0.5)
    assert lost(updates, trained) == []


def mean(model: nn.Module) -> dict[str, float]:
    return {"val": float(model(torch.ones(4, 3)).mean())}
