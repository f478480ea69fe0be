"""Compiled and exported solves compute what eager ones do."""

import subprocess
import sys

import pytest
import torch
from torch import nn

import deq_core as deq


@pytest.fixture
def x():
    return torch.randn(3, 6, generator=torch.Generator().manual_seed(0))


class Layer(nn.Module):
    def __init__(self, solver, adjoint):
        super().__init__()
        torch.manual_seed(1)
        self.linear = deq.nn.weight_norm_(nn.Linear(6, 6))
        self.deq = deq.nn.DEQ(solver=solver, stop=deq.Stop(4, None), adjoint=adjoint)

    def forward(self, x):
        return self.deq(lambda z: torch.tanh(0.4 * self.linear(z) + x), torch.zeros_like(x)).value


# Few steps, as compiling takes a second for each, and memories that are filled in them.
SOLVERS = [deq.FixedPointIteration(damping=0.1), deq.Anderson(window=2), deq.Broyden(memory=2)]


@pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: solver.kind)
def test_a_solve_without_tolerance_compiles_whole(x, solver):
    layer = Layer(solver, deq.Implicit())
    compiled = torch.compile(layer, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(x), layer(x))


def test_only_f_is_under_autocast_in_a_graph_too(x):
    weight, layer = 0.01 * torch.eye(6), deq.nn.DEQ(stop=deq.Stop(4, None))

    def residual(x):
        def exact(z):
            with torch.autocast("cpu", enabled=False):
                return torch.tanh(z @ weight + x)

        return layer(exact, torch.zeros_like(x)).residual

    compiled = torch.compile(residual, backend="eager", fullgraph=True)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        assert compiled(x).max() < 1e-6
        torch.testing.assert_close(compiled(x), residual(x))


# The tracer instantiates the function of a custom gradient itself.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize(
    ("solver", "adjoint"),
    [
        (deq.Anderson(window=2), deq.Unrolled()),
        (deq.FixedPointIteration(), deq.Phantom(steps=2)),
        (deq.FixedPointIteration(), deq.JacobianFree()),
    ],
    ids=lambda choice: choice.kind,
)
def test_its_gradients_compile_too(x, solver, adjoint):
    layer = Layer(solver, adjoint)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    expected = torch.autograd.grad(layer(x).square().sum(), list(layer.parameters()))
    found = torch.autograd.grad(compiled(x).square().sum(), list(layer.parameters()))
    for left, right in zip(found, expected, strict=True):
        torch.testing.assert_close(left, right)


# Both warnings are about what torch's tracer does itself.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize(
    "adjoint",
    [deq.Implicit(deq.FixedPointIteration(), deq.Stop(3, None)), deq.Reversible()],
    ids=lambda adjoint: adjoint.kind,
)
def test_other_gradients_break_the_graph_and_stay_what_they_are(x, adjoint):
    layer = Layer(None if adjoint.kind == "reversible" else deq.FixedPointIteration(), adjoint)
    compiled = torch.compile(layer, backend="aot_eager")
    expected = torch.autograd.grad(layer(x).square().sum(), list(layer.parameters()))
    found = torch.autograd.grad(compiled(x).square().sum(), list(layer.parameters()))
    for left, right in zip(found, expected, strict=True):
        torch.testing.assert_close(left, right)


def test_importing_the_core_leaves_the_compiler_alone():
    code = "import sys, deq_core; print([m for m in ('torch._dynamo', 'mlflow', 'pydantic') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


# torch's tracer looks at .grad of every input and silences the warning about non-leaves by other means than a filter.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("adjoint", [deq.Implicit(), deq.Unrolled()], ids=lambda adjoint: adjoint.kind)
def test_a_compiled_cell_works_under_the_eager_loop(x, adjoint):
    torch.manual_seed(1)
    linear = nn.Linear(6, 6)
    cell = lambda z: torch.tanh(0.4 * linear(z) + x)  # noqa: E731  the closure is the point
    compiled = torch.compile(cell, backend="aot_eager", fullgraph=True)
    found, expected = (
        torch.autograd.grad(
            deq.fixed_point(f, torch.zeros_like(x), adjoint=adjoint).value.sum(), list(linear.parameters())
        )
        for f in (compiled, cell)
    )
    for left, right in zip(found, expected, strict=True):
        torch.testing.assert_close(left, right)


def test_a_layer_with_a_fixed_number_of_steps_exports(x):
    layer = Layer(deq.Anderson(window=2), deq.Implicit())
    with torch.no_grad():
        exported = torch.export.export(layer, (x,), strict=False)
        torch.testing.assert_close(exported.module()(x), layer(x))


def test_a_solve_whose_choices_are_made_in_the_graph_compiles_whole(x):
    weight, window = 0.1 * torch.eye(6), 2

    def solve(x):
        f = lambda z: torch.tanh(z @ weight + x)  # noqa: E731  the closure is the point
        plain = deq.fixed_point(f, torch.zeros_like(x), solver=deq.Broyden(2), stop=deq.Stop(2, None)).value
        stop = deq.Stop(max_steps=3, tol=None, relative=False, norm=deq.max_norm)
        accelerated = deq.fixed_point(f, plain, solver=deq.Anderson(window), stop=stop, adjoint=deq.Phantom())
        return accelerated.value, accelerated.residual

    with torch.no_grad():
        found = torch.compile(solve, backend="eager", fullgraph=True)(x)
        for left, right in zip(found, solve(x), strict=True):
            torch.testing.assert_close(left, right)
