"""Every field of a layer's configuration, of its solvers and gradients, reaches the solve."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.changes import least, lost, members
from torch import Tensor

import deq_core as deq
from deq_core.experiment.config.layer import Adjoint, ImplicitConfig, LayerConfig, Solver, StopConfig

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
