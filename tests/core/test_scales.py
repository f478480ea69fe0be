"""A residual is what float64 would say of it, at every scale that the state's dtype has."""

import pytest
import torch
from tests.problems import SOLVERS
from torch.nn.functional import pad

import deq_core as deq

SCALES = {
    torch.float64: (1e-300, 1e-160, 1.0, 1e300),
    torch.float32: (1e-40, 1e-24, 1.0, 1e20, 1e37),
    torch.bfloat16: (1e-40, 1e37),
    torch.float16: (1e-7, 3e4),
}
CASES = [(dtype, scale) for dtype, scales in SCALES.items() for scale in scales]
NORMS = [deq.two_norm, deq.rms_norm, deq.max_norm]
KRYLOV = {"gmres": deq.GMRES(), "gmres-short": deq.GMRES(memory=3), "conjugate-residual": deq.ConjugateResidual()}
ABSOLUTE = {"anderson-absolute": deq.Anderson(relative_ridge=False)}
ALL: dict[str, deq.Solver] = {**SOLVERS, **KRYLOV, **ABSOLUTE}


def exact(norm, x):
    """The norm by the definition, in float64, of elements that may be anywhere in its range."""
    x = x.double()
    largest = x.abs().amax(1).clamp_min(1e-320)
    return norm(x / largest[:, None]) * largest


def contraction(dtype, scale, batch=3, size=6, norm=0.6):
    """f(z) = W z + scale · b, symmetric, and its fixed point in float64."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(size, size, generator=generator, dtype=torch.float64)
    weight = weight + weight.T
    weight = weight * (norm / torch.linalg.matrix_norm(weight, 2))
    bias = torch.rand(batch, size, generator=generator, dtype=torch.float64) + 0.5
    solution = torch.linalg.solve(torch.eye(size, dtype=torch.float64) - weight, bias.T).T
    shift = (scale * bias).to(dtype)
    return lambda z: (z[:, None, :] * weight.to(dtype)).sum(2) + shift, torch.zeros_like(shift), solution


def solved(f, z0, stop, solver=None):
    """The solution, and the residual of every evaluation as float64 has it, (evaluations, B)."""
    seen = []

    def recorded(z):
        image = f(z)
        seen.append((z.detach().clone(), image.detach().clone()))
        return image

    with torch.no_grad():
        solution = deq.fixed_point(recorded, z0, solver=solver, stop=stop, on_failure="ignore")
    # z as the solver had it may lie between the numbers of a half precision
    true = [exact(stop.norm, image.double() - z.double()) / exact(stop.norm, image) for z, image in seen]
    return solution, torch.stack(true)


@pytest.mark.parametrize(("dtype", "scale"), CASES)
@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: norm.__name__)
def test_a_norm_is_right_as_far_as_its_elements_are(norm, dtype, scale):
    x = (scale * torch.rand(3, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).to(dtype)
    found = norm(x)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(found.double() / scale, exact(norm, x) / scale, rtol=1e-4, atol=0)


@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: norm.__name__)
@pytest.mark.parametrize("batch", [3, 300])
def test_samples_of_any_scale_share_a_batch(norm, batch):
    scale = torch.logspace(-44, 37, batch, dtype=torch.float64)[:, None]
    x = (scale * torch.ones(batch, 4, dtype=torch.float64)).float()
    x = torch.cat([x, torch.zeros(1, 4), torch.full((1, 4), torch.inf), torch.full((1, 4), torch.nan)])
    found = norm(x)
    torch.testing.assert_close(found[:batch].double(), exact(norm, x[:batch]), rtol=1e-5, atol=1.5e-45)
    assert (found[batch], found[batch + 1]) == (0, torch.inf)
    assert found[batch + 2].isnan()


@pytest.mark.parametrize("norm", [deq.two_norm, deq.rms_norm], ids=lambda norm: norm.__name__)
@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e25])
def test_a_norm_has_its_gradient_at_every_scale(norm, scale):
    x = torch.tensor([[3.0, 4.0]]).mul(scale).requires_grad_()
    (gradient,) = torch.autograd.grad(norm(x).sum(), x)
    expected = torch.tensor([[0.6, 0.8]]) / (1 if norm is deq.two_norm else 2**0.5)
    torch.testing.assert_close(gradient, expected)
    mapped = torch.func.vmap(torch.func.grad(lambda row: norm(row[None]).sum()))(x.detach())
    torch.testing.assert_close(mapped, expected)


@pytest.mark.parametrize(("dtype", "scale"), [case for case in CASES if case[0] in (torch.float32, torch.float64)])
@pytest.mark.parametrize("solver", ALL)
def test_what_is_called_converged_is(solver, dtype, scale):
    f, z0, solution = contraction(dtype, scale)
    tol = 1e-3 if scale == 1e-40 else 1e-5
    found, true = solved(f, z0, deq.Stop(90, tol), ALL[solver])
    arrived = len(found.trace)
    best = torch.stack([true[steps - 1, sample] for sample, steps in enumerate(found.steps.tolist())])
    torch.testing.assert_close(found.residual.double(), best, rtol=1e-4, atol=0)
    assert torch.equal(found.converged, true[:arrived].amin(0) <= tol)
    if solver not in ABSOLUTE:
        assert found.converged.all()
        torch.testing.assert_close(found.value.double() / scale, solution, rtol=20 * tol, atol=20 * tol)


@pytest.mark.parametrize(("dtype", "scale"), [case for case in CASES if case[0] in (torch.float16, torch.bfloat16)])
@pytest.mark.parametrize("solver", ["iteration", "anderson", "broyden"])
def test_what_is_called_converged_in_half_precision_is(solver, dtype, scale):
    f, z0, _ = contraction(dtype, scale)
    found, _ = solved(f, z0, deq.Stop(40, 3e-2), ALL[solver])
    image = f(found.value).double()
    true = exact(deq.two_norm, image - found.value.double()) / exact(deq.two_norm, image)
    assert found.value.isfinite().all()
    assert (true[found.converged] < 0.1).all()


@pytest.mark.parametrize("power", [-100, 60])
@pytest.mark.parametrize("solver", [name for name in ALL if name not in ABSOLUTE])
def test_a_solver_takes_the_same_steps_at_every_scale(solver, power):
    stop = deq.Stop(12, None)
    f, z0, _ = contraction(torch.float32, 1.0)
    scaled, start, _ = contraction(torch.float32, 2.0**power)
    plain, _ = solved(f, z0, stop, ALL[solver])
    found, _ = solved(scaled, start, stop, ALL[solver])
    torch.testing.assert_close(found.trace, plain.trace, rtol=1e-5, atol=1e-9)
    torch.testing.assert_close(found.value * 2.0**-power, plain.value)


@pytest.mark.parametrize("batch", [3, 200])
def test_a_sample_at_another_scale_leaves_the_others_alone(batch):
    f, z0, _ = contraction(torch.float32, 1.0, batch)
    power = torch.where(torch.arange(batch) == 1, 2.0**-90, 1.0)[:, None]
    mixed, _ = solved(lambda z: power * f(z / power), z0, deq.Stop(9, None))
    plain, _ = solved(f, z0, deq.Stop(9, None))
    assert torch.equal(mixed.trace, plain.trace)
    assert torch.equal(mixed.value, power * plain.value)


@pytest.mark.parametrize("scale", [1e-35, 1e-25, 1e25, 1e35])
@pytest.mark.parametrize("solver", [name for name in ALL if name != "reversible"])
def test_a_backward_pass_is_called_converged_where_its_gradient_is_right(solver, scale):
    f, z0, _ = contraction(torch.float32, 1.0, norm=0.9)
    inject = torch.zeros_like(z0).requires_grad_()
    weights = torch.rand(z0.shape, generator=torch.Generator().manual_seed(1))

    def gradient(adjoint):
        solution = deq.fixed_point(lambda z: f(z) + inject, z0, stop=deq.Stop(80, 1e-6), adjoint=adjoint)
        return torch.autograd.grad(solution.value, inject, scale * weights)[0] / scale

    exact = torch.linalg.solve(torch.eye(6) - torch.func.jacrev(f)(z0[:1])[0, :, 0].T, weights.T).T
    try:
        found = gradient(deq.Implicit(ALL[solver], deq.Stop(200, 1e-5), on_failure="raise"))
    except deq.ConvergenceError:
        assert solver in ABSOLUTE
    else:
        torch.testing.assert_close(found, exact, rtol=2e-3, atol=2e-3)
    with pytest.raises(deq.ConvergenceError, match="3 of 3 samples of a backward pass did not reach"):
        gradient(deq.Implicit(ALL[solver], deq.Stop(2, 1e-6), on_failure="raise"))


@pytest.mark.parametrize("scale", [2.0**-100, 2.0**70])
@pytest.mark.parametrize("refine", [None, deq.Implicit(stop=deq.Stop(100, 1e-6), on_failure="raise")])
def test_a_shared_estimate_does_not_see_the_scale(scale, refine):
    found, small = [], 2.0**-26
    for forward, backward in ((1.0, 1.0), (scale, 1.0), (1.0, scale), (scale, scale), (small, scale)):
        f, z0, _ = contraction(torch.float32, forward)
        inject = torch.zeros_like(z0).requires_grad_()
        solver, stop = deq.Broyden(), deq.Stop(30, 1e-5)
        solution = deq.fixed_point(
            lambda z, f=f, inject=inject: f(z) + inject, z0, solver=solver, stop=stop, adjoint=deq.SHINE(refine)
        )
        gradient = torch.full_like(z0, backward)
        found.append(torch.autograd.grad(solution.value, inject, gradient)[0] / backward)
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("norm", NORMS, ids=lambda norm: norm.__name__)
def test_a_state_that_f_keeps_has_no_residual_and_any_other_has(norm, relative):
    z = torch.zeros(5, 4)
    fz = torch.zeros(5, 4)
    fz[1, 0] = 1e-45  # the smallest there is
    z[2], fz[2] = 1.0, 1.0
    z[3] = 1.0  # whose image is zero
    z[4], fz[4] = 3e38, -1e-45
    residual = deq.Stop(relative=relative, norm=norm).residual(z, fz)
    assert (residual == 0).tolist() == [True, False, True, False, False]
    assert residual.isfinite().all()


def test_a_difference_that_the_residuals_dtype_has_no_number_for_is_none():
    """1e-45 of 1e38: below float32's smallest number, and still not zero."""
    z = pad(torch.full((1, 1), 1e38), (0, 1))
    fz = pad(torch.full((1, 1), 1e38), (0, 1), value=1e-45)
    assert 0 < deq.Stop(tol=0.0).residual(z, fz) < 1e-30


@pytest.mark.parametrize("own", [lambda x: x.square().sum(1).sqrt(), lambda x: x.square().mean(1).sqrt()])
def test_a_norm_of_ones_own_is_right_at_every_scale_too(own):
    for scale in SCALES[torch.float32]:
        f, z0, _ = contraction(torch.float32, scale)
        _, true = solved(f, z0, deq.Stop(8, None))
        found, _ = solved(f, z0, deq.Stop(8, None, norm=own))
        torch.testing.assert_close(found.trace.double(), true, rtol=1e-3, atol=0)


def test_a_norm_may_leave_parts_of_the_state_out():
    first = lambda x: x[:, :2].norm(dim=1)  # noqa: E731  a norm of one's own
    target = torch.tensor([[1.0, 2.0, 0.0]])
    z0 = torch.tensor([[1.0, 2.0, 7.0]])
    with torch.no_grad():
        assert deq.fixed_point(lambda z: target, z0, stop=deq.Stop(1, 1e-6, norm=first)).converged.all()


def test_parts_of_a_state_may_differ_in_scale():
    def f(a, b):
        return 0.9 * a + 1e20, 0.5 * b + 1e-25

    with torch.no_grad():
        found = deq.fixed_point(f, (torch.zeros(2, 3), torch.zeros(2, 4)), stop=deq.Stop(300, 1e-5))
    assert found.converged.all()
    torch.testing.assert_close(found.value[0], torch.full((2, 3), 1e21), rtol=1e-3, atol=0)
    gap = f(*found.value)[0].double() - found.value[0].double()
    assert (gap.abs() < 2e-5 * 1e21).all()


@pytest.mark.parametrize("scale", [1e-24, 1e30])
@pytest.mark.parametrize("solver", [deq.Anderson(window=2), deq.Broyden(memory=2)], ids=lambda solver: solver.kind)
def test_what_may_not_wait_for_numbers_finds_the_same(solver, scale):
    f, z0, _ = contraction(torch.float32, scale)
    stop = deq.Stop(4, None)

    def solve(z0):
        found = deq.fixed_point(f, z0, solver=solver, stop=stop)
        return found.value, found.residual

    with torch.no_grad():
        value, residual = solve(z0)
        graph = torch.compile(solve, backend="eager", fullgraph=True)(z0)
        mapped = torch.func.vmap(solve)(z0[None])
    torch.testing.assert_close(graph[0] / scale, value / scale)
    torch.testing.assert_close(mapped[0][0] / scale, value / scale)
    torch.testing.assert_close(graph[1], residual, rtol=1e-3, atol=1e-7)
    torch.testing.assert_close(mapped[1][0], residual, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("scale", [1e-30, 1e-15, 1e30])
@pytest.mark.parametrize(
    "solver", [deq.FixedPointIteration(), deq.Anderson(), deq.Anderson(relative_ridge=False), deq.Broyden()]
)
def test_the_released_rules_call_nothing_converged_that_is_not(solver, scale):
    f, z0, _ = contraction(torch.float32, scale)
    with torch.no_grad():
        found = deq.compat.released_fixed_point(f, z0, solver=solver, stop=deq.Stop(30, 1e-3))
    argument = found.value if isinstance(solver, deq.FixedPointIteration) else found.argument
    assert isinstance(argument, torch.Tensor)
    image = f(argument).double().flatten()[None]
    true = exact(deq.two_norm, image - argument.double().flatten()[None]) / exact(deq.two_norm, image)
    assert not found.converged.any() or bool(true <= 1.01e-3)


@pytest.mark.parametrize("scale", [1e-35, 1e25])
def test_the_spectral_radius_does_not_see_the_scale(scale):
    slopes = scale * torch.linspace(0.1, 0.7, 5)
    found = deq.nn.spectral_radius(lambda z: slopes * z, torch.ones(2, 5), iterations=60)
    torch.testing.assert_close(found / scale, torch.full((2,), 0.7), rtol=1e-2, atol=0)


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e20])
def test_normalised_weights_do_not_see_the_scale_of_the_original(scale):
    found = {}
    for given in (1.0, scale):
        linear = torch.nn.Linear(5, 4)
        torch.manual_seed(0)
        linear.weight = torch.nn.Parameter(given * torch.randn(4, 5))
        torch.manual_seed(1)
        found[given] = deq.nn.spectral_norm_(linear, iterations=3).weight
    torch.testing.assert_close(found[scale], found[1.0], rtol=1e-4, atol=1e-6)
    lengths = {}
    for given in (1.0, scale):
        linear = torch.nn.Linear(5, 4)
        linear.weight = torch.nn.Parameter(given * torch.linspace(-1, 2, 20).reshape(4, 5))
        lengths[given] = deq.nn.weight_norm_(linear, length=0.5).weight
    torch.testing.assert_close(lengths[scale], lengths[1.0])


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_a_relative_threshold_does_not_see_the_scale(scale):
    linear = torch.nn.Linear(8, 8, bias=False)
    generator = torch.Generator().manual_seed(0)
    inject = scale * torch.rand(2, 8, generator=generator)
    sent = []
    for given in (1.0, scale):
        cell, meter = deq.delta.to_delta(torch.nn.Sequential(linear), 0.05, relative=True)
        shift = inject / scale * given
        with torch.no_grad():
            deq.fixed_point(lambda z: 0.4 * cell(z) + shift, torch.zeros(2, 8), stop=deq.Stop(9, None))  # noqa: B023
        sent.append(meter.sparsity)
    assert 0.2 < sent[0] < 0.95
    assert sent[1] == pytest.approx(sent[0], abs=0.03)


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160])
def test_a_way_back_that_ends_elsewhere_is_noticed_at_every_scale(scale):
    shift = torch.full((1, 4), scale, dtype=torch.float64, requires_grad=True)
    calls = []

    def f(z):
        calls.append(0)
        # another function in the backward pass
        return scale * torch.tanh(0.9 * z / scale) + shift * (1 if len(calls) < 12 else 1.5)

    stop = deq.Stop(10, None)
    solution = deq.fixed_point(f, torch.zeros(1, 4, dtype=torch.float64), stop=stop, adjoint=deq.Reversible())
    with pytest.raises(deq.ConvergenceError, match="came back to another state"):
        torch.autograd.grad(solution.value, shift, torch.ones_like(shift))
