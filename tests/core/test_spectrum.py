"""The spectral radius against eigenvalues that are known."""

import math

import pytest
import torch
from tests.core.test_regularize import dense_jacobian
from tests.problems import PROBLEMS

import deq_core as deq

METHODS = ["differences", "autograd"]


def radius(f, z, seed=0, **options):
    return deq.nn.spectral_radius(f, z, generator=torch.Generator().manual_seed(seed), **options)


def with_eigenvalues(blocks, size, seed, dtype=torch.float64):
    """A matrix (size, size) far from normal with these pairs (magnitude, angle), and eigenvalues below 0.5 else."""
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.diag(torch.rand(size, generator=generator, dtype=torch.float64) - 0.5)
    matrix += 0.2 * torch.randn(size, size, generator=generator, dtype=torch.float64).triu(2) / math.sqrt(size)
    for place, (magnitude, angle) in enumerate(blocks):
        c, s = magnitude * math.cos(angle), magnitude * math.sin(angle)
        matrix[2 * place : 2 * place + 2, 2 * place : 2 * place + 2] = torch.tensor([[c, -3 * s], [s / 3, c]])
    basis, _ = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))
    return (basis @ matrix @ basis.T).to(dtype)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["linear", "tanh", "expanding"])
def test_it_is_the_largest_eigenvalues_magnitude(name, method):
    problem = PROBLEMS[name]()
    z = problem.solution()
    exact = torch.linalg.eigvals(dense_jacobian(problem.f, z)).abs().amax(1)
    found = radius(problem.f, z, iterations=z[0].numel(), method=method)
    torch.testing.assert_close(found, exact, rtol=1e-5, atol=0)
    assert not found.requires_grad


@pytest.mark.parametrize("method", METHODS)
def test_inference_mode_changes_no_radius(method):
    problem = PROBLEMS["tanh"]()
    z = problem.solution()
    expected = radius(problem.f, z, method=method)
    with torch.inference_mode():
        torch.testing.assert_close(radius(problem.f, z.clone(), method=method), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("method", METHODS)
def test_thirty_iterations_find_a_complex_pair_among_hundreds(method, dtype):
    weight = with_eigenvalues([(1.02, 0.7), (0.9, 2.0)], 400, 0, dtype)
    z = torch.randn(2, 400, generator=torch.Generator().manual_seed(1)).to(dtype)
    found = radius(lambda z: z @ weight.T + 1, z, method=method)
    assert found.dtype == dtype
    torch.testing.assert_close(found, torch.full_like(found, 1.02), rtol=3e-3, atol=0)


def test_differences_see_the_whole_map_where_autograd_sees_what_f_lets_it():
    """Flow, which f detaches, does not contract; hidden does. In hidden's units flow is thousands."""

    def cell(dtype, detach):
        inner = with_eigenvalues([(0.6, 1.0)], 40, 0, dtype)
        outer = with_eigenvalues([(1.05, 0.4)], 40, 1, dtype)

        def f(hidden, flow):
            flow = flow.detach() if detach else flow
            return torch.tanh(hidden @ inner.T + 1e-4 * flow), flow @ outer.T + 500 * hidden

        return f

    generator = torch.Generator().manual_seed(2)
    z = 0.1 * torch.randn(3, 40, generator=generator), 3000 * torch.randn(3, 40, generator=generator)
    double = tuple(part.double() for part in z)
    whole = lambda z: torch.cat(cell(torch.float64, detach=False)(z[:, :40], z[:, 40:]), dim=1)  # noqa: E731
    exact = torch.linalg.eigvals(dense_jacobian(whole, torch.cat(double, dim=1))).abs().amax(1)
    assert (exact > 1.05).all()
    f = cell(torch.float64, detach=True)
    assert (radius(f, double, iterations=80, method="autograd") < 0.61).all()
    torch.testing.assert_close(radius(f, double, iterations=80), exact, rtol=1e-4, atol=0)
    torch.testing.assert_close(radius(cell(torch.float32, detach=True), z), exact.float(), rtol=1e-2, atol=0)


def test_every_sample_has_its_own_and_one_that_is_not_finite_harms_no_other():
    slopes = torch.tensor([0.3, 0.9, torch.nan, 1.7])[:, None]
    calls = []

    def f(z):
        calls.append(1)
        return slopes * z

    found = radius(f, torch.ones(4, 50), iterations=5)
    torch.testing.assert_close(found, slopes[:, 0], rtol=1e-3, atol=0, equal_nan=True)
    assert len(calls) == 6


@pytest.mark.parametrize("method", METHODS)
def test_small_and_constant_maps_are_exact(method):
    angle = torch.tensor(0.7)
    rotation = 0.9 * torch.tensor([[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]])
    found = radius(lambda z: z @ rotation.T, torch.zeros(2, 2), method=method)
    torch.testing.assert_close(found, torch.full((2,), 0.9))
    image = torch.ones(2, 3)
    assert radius(lambda z: image, torch.zeros(2, 3), method=method).eq(0).all()
    assert radius(lambda z: 0.5 * z, torch.zeros(0, 3), method=method).shape == (0,)


def test_every_evaluation_sees_the_same_dropout_mask():
    drop = deq.nn.VariationalDropout(0.5)
    found = radius(lambda z: drop(0.4 * z), torch.ones(2, 64))
    torch.testing.assert_close(found, torch.full((2,), 0.8), rtol=1e-3, atol=0)


@pytest.mark.parametrize("options", [{"iterations": 1}, {"method": "power"}, {"step": 0.0}])
def test_impossible_settings_are_refused(options):
    with pytest.raises(ValueError, match="must be"):
        deq.nn.spectral_radius(torch.cos, torch.zeros(1, 1), **options)
