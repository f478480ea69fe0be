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


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_start_that_is_the_same_for_all_may_be_mapped_over_too(x, solver):
    def one(inject):
        f = lambda z: torch.tanh(0.4 * z.roll(1, 1) + inject)  # noqa: E731  the closure is the point
        stop = deq.Stop(6, None)
        return deq.fixed_point(f, torch.zeros(x.shape).to(x), solver=SOLVERS[solver], stop=stop, adjoint=deq.Unrolled())

    many = torch.stack([x, 2 * x, -x])
    expected = torch.stack([one(inject).value for inject in many])
    torch.testing.assert_close(torch.func.vmap(lambda inject: one(inject).value)(many), expected)
    with torch.no_grad():
        torch.testing.assert_close(torch.func.vmap(lambda inject: one(inject).value)(many), expected.detach())


@pytest.mark.parametrize("adjoint", FOLLOWED, ids=lambda adjoint: adjoint.kind)
def test_gradients_reach_out_of_a_mapped_solve(x, adjoint):
    shift, many = torch.zeros(4, dtype=torch.float64, requires_grad=True), torch.stack([x, -x])
    loss = lambda solves: torch.stack(list(solves)).square().sum()  # noqa: E731  of the states
    mapped = torch.func.vmap(lambda inject: solve(inject + shift, adjoint))(many)
    expected = torch.autograd.grad(loss(solve(inject + shift, adjoint) for inject in many), shift)
    torch.testing.assert_close(torch.autograd.grad(loss(mapped), shift), expected)


@pytest.mark.parametrize("adjoint", REFUSED, ids=lambda adjoint: adjoint.kind)
def test_a_gradient_that_a_mapped_solve_would_lose_is_refused(x, adjoint):
    solver = deq.Broyden() if isinstance(adjoint, deq.SHINE) else None
    shift, many = torch.zeros(4, dtype=torch.float64, requires_grad=True), torch.stack([x, -x])
    mapped = torch.func.vmap(lambda inject: solve(inject + shift, adjoint, solver))
    with pytest.raises(RuntimeError, match=r"does not pass through torch\.vmap: use .*Unrolled\(\), or torch\.no_grad"):
        mapped(many)
    with pytest.raises(RuntimeError, match=r"does not pass through torch\.(vmap|func)"):
        torch.func.grad(lambda many: mapped(many).sum())(many)
    shift.requires_grad_(False)
    assert mapped(many).shape == many.shape


def test_a_solve_with_a_tolerance_is_not():
    with torch.no_grad(), pytest.raises(RuntimeError, match=r"torch\.vmap cannot follow .* use Stop\(n, tol=None\)"):
        torch.func.vmap(lambda inject: solve(inject, deq.Unrolled(), stop=deq.Stop()))(torch.ones(2, 3, 4))
