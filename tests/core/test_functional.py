"""What passes through the transforms of `torch.func`, and what says that it does not."""

import pytest
import torch
from tests.problems import SOLVERS
from torch.autograd import forward_ad

import deq_core as deq

STOP = deq.Stop(6, None)
# torch.func.jvp loads decompositions that torch scripts.
OF_TORCH = "ignore:.*torch.jit.*:DeprecationWarning"


def solve(inject, adjoint, solver=None, stop=STOP):
    f = lambda z: torch.tanh(z.roll(1, -1) / 2 + inject)  # noqa: E731  the closure is the point
    return deq.fixed_point(f, torch.zeros_like(inject), solver=solver, stop=stop, adjoint=adjoint).value


@pytest.fixture
def x():
    return torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


FOLLOWED = [deq.Phantom(steps=2), deq.Unrolled()]
REFUSED = [deq.Implicit(), deq.JacobianFree(), deq.Truncated(), deq.SHINE(), deq.Reversible()]


@pytest.mark.parametrize("adjoint", FOLLOWED, ids=lambda adjoint: adjoint.kind)
def test_reverse_mode_transforms_reach_through(x, adjoint):
    loss = lambda inject: solve(inject, adjoint).sum()  # noqa: E731  to be transformed
    x.requires_grad_()
    expected = torch.autograd.grad(loss(x), x)[0]
    torch.testing.assert_close(torch.func.grad(loss)(x), expected)
    torch.testing.assert_close(torch.func.jacrev(loss)(x), expected)


@pytest.mark.parametrize("adjoint", REFUSED, ids=lambda adjoint: adjoint.kind)
def test_reverse_mode_transforms_of_the_others_are_refused(x, adjoint):
    solver = deq.Broyden() if isinstance(adjoint, deq.SHINE) else None
    with pytest.raises(RuntimeError, match=r"torch\.func transforms: use adjoint=.*Unrolled\(\)"):
        torch.func.grad(lambda inject: solve(inject, adjoint, solver).sum())(x)


@pytest.mark.filterwarnings(OF_TORCH)
@pytest.mark.parametrize("solver", SOLVERS)
def test_forward_mode_follows_an_unrolled_solve(x, solver):
    along = torch.ones_like(x)
    f = lambda inject: solve(inject, deq.Unrolled(), SOLVERS[solver])  # noqa: E731  to be transformed
    product = torch.func.jvp(f, (x,), (along,))[1]
    torch.testing.assert_close(product, torch.func.jacrev(f)(x).sum((2, 3)))
    with forward_ad.dual_level():
        dual = f(forward_ad.make_dual(x, along))
        torch.testing.assert_close(forward_ad.unpack_dual(dual).tangent, product)


@pytest.mark.filterwarnings(OF_TORCH)
@pytest.mark.parametrize("adjoint", [deq.Phantom(), *REFUSED[:-1]], ids=lambda adjoint: adjoint.kind)
def test_forward_mode_through_another_gradient_is_refused(x, adjoint):
    solver = deq.Broyden() if isinstance(adjoint, deq.SHINE) else None
    with pytest.raises(RuntimeError, match=r"forward-mode differentiation .* use adjoint=Unrolled\(\)"):
        torch.func.jvp(lambda inject: solve(inject, adjoint, solver), (x,), (torch.ones_like(x),))


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_solve_of_fixed_length_is_mapped_over(x, solver):
    many = torch.stack([x, 2 * x, -x])
    mapped = torch.func.vmap(lambda inject: solve(inject, deq.Unrolled(), SOLVERS[solver]))
    expected = torch.stack([solve(inject, deq.Unrolled(), SOLVERS[solver]) for inject in many])
    torch.testing.assert_close(mapped(many), expected)
    with torch.no_grad():
        torch.testing.assert_close(mapped(many), expected.detach())


def test_a_solve_with_a_tolerance_is_not():
    with torch.no_grad(), pytest.raises(RuntimeError, match=r"torch\.vmap cannot follow .* use Stop\(n, tol=None\)"):
        torch.func.vmap(lambda inject: solve(inject, deq.Unrolled(), stop=deq.Stop()))(torch.ones(2, 3, 4))
