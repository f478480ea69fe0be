"""A way back under what torch does round it: masks, parametrised weights, autocast, checkpoints, several graphs."""

import torch
from tests.gradients import assert_equal_gradients, cotangent_of, gradients, reversibly, unrolled
from tests.problems import PROBLEMS
from torch import nn
from torch.utils.checkpoint import checkpoint

import deq_core as deq

HALF = deq.Reversible()


class Cell(nn.Module):
    """Everything that a solve computes once."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.inner = deq.nn.weight_norm_(nn.Linear(6, 8, dtype=torch.float64))
        self.outer = deq.nn.spectral_norm_(nn.Linear(8, 6, dtype=torch.float64), bound=0.9)
        self.drop = deq.nn.VariationalDropout(0.3)

    def forward(self, z, x):
        return torch.tanh(self.outer(self.drop(torch.relu(self.inner(z)))) + x)


def inject():
    return torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()


def of_cell(options, autocast=False):
    cell, x = Cell(), inject()
    torch.manual_seed(5)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        solution = deq.fixed_point(lambda z: cell(z, x), torch.zeros_like(x), stop=deq.Stop(14, None), **options)
    cell(x.detach(), x)  # other masks and singular vectors in between
    return solution, torch.autograd.grad(solution.value.square().sum(), [x, *cell.parameters()])


def test_masks_and_parametrised_weights_are_the_solves_own():
    (_, found), (_, expected) = of_cell(reversibly(HALF)), of_cell(unrolled(HALF))
    assert_equal_gradients(found, expected)


def test_evaluations_are_made_again_under_the_callers_autocast():
    cell = nn.Linear(6, 6)
    x, dtypes, found = torch.randn(3, 6, requires_grad=True), [], []

    def f(z):
        image = cell(z)
        dtypes.append(image.dtype)
        return torch.tanh(0.3 * image + x)

    for options in (reversibly(HALF), unrolled(HALF)):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            solution = deq.fixed_point(f, torch.zeros(3, 6), stop=deq.Stop(8, None), **options)
        found.append(torch.autograd.grad(solution.value.sum(), [x, *cell.parameters()]))
    assert set(dtypes) == {torch.bfloat16}
    assert len(dtypes) == 8 + 7 + 8
    for left, right in zip(*found, strict=True):
        assert torch.equal(left, right)


def test_graphs_may_be_used_twice_and_in_any_order():
    problem, stop = PROBLEMS["tanh"](), deq.Stop(10, None)
    expected = gradients(problem, cotangent_of(problem), stop=stop, **unrolled(HALF))
    losses = [
        (deq.fixed_point(problem.f, problem.z0, stop=stop, adjoint=HALF).value * cotangent_of(problem)).sum()
        for _ in range(2)
    ]
    for loss in (losses[1], losses[0], losses[1]):
        assert_equal_gradients(torch.autograd.grad(loss, problem.parameters, retain_graph=True), expected)


def test_it_works_under_checkpointing():
    problem, stop = PROBLEMS["tanh"](), deq.Stop(10, None)
    expected = gradients(problem, cotangent_of(problem), stop=stop, **unrolled(HALF))

    def solve(inject):
        f = lambda z: torch.tanh(z @ problem.parameters[0].T + inject)  # noqa: E731  the closure is the point
        return deq.fixed_point(f, problem.z0, stop=stop, adjoint=HALF).value.sin().asin()

    value = checkpoint(solve, problem.parameters[1], use_reentrant=False)
    found = torch.autograd.grad((value * cotangent_of(problem)).sum(), problem.parameters)
    assert_equal_gradients(found, expected)
