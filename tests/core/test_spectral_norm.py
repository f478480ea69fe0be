"""Spectral normalisation: the norm asked for, and one function during a solve."""

from functools import partial

import pytest
import torch
from tests.problems import TIGHT
from torch import nn
from torch.nn.utils.parametrizations import _SpectralNorm, spectral_norm

import deq_core as deq


class Cell(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Linear(6, 8, dtype=torch.float64)
        self.outer = nn.Linear(8, 6, dtype=torch.float64)

    def forward(self, z, x):
        return torch.tanh(self.outer(torch.relu(self.inner(z))) + x)


@pytest.fixture
def x():
    return torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def solve(cell, x, adjoint):
    return deq.fixed_point(lambda z: cell(z, x), torch.zeros_like(x), stop=TIGHT, adjoint=adjoint)


def by_torch(cell):
    """`cell` with torch's own parametrisation, whose vectors move at every computation of a weight."""
    spectral_norm(cell.inner)
    spectral_norm(cell.outer)
    for module in cell.modules():
        if isinstance(module, _SpectralNorm):  # as far from converged as after a large update
            module._u.copy_(torch.eye(len(module._u))[0])
            module._v.copy_(torch.eye(len(module._v))[0])
    return cell


def singular_vector(layer):
    return layer.state_dict()["parametrizations.weight.0._u"].clone()


def test_weights_have_the_norm_asked_for():
    cell = deq.nn.spectral_norm_(Cell(), bound=0.7, iterations=30)
    for layer in (cell.inner, cell.outer):
        torch.testing.assert_close(
            torch.linalg.matrix_norm(layer.weight, 2), torch.tensor(0.7, dtype=torch.float64), rtol=1e-3, atol=0
        )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_of_half_precision_stay_so(dtype):
    layer = deq.nn.spectral_norm_(nn.Linear(6, 4, dtype=dtype), bound=0.7, iterations=30)
    assert layer(torch.ones(2, 6, dtype=dtype)).dtype == dtype
    torch.testing.assert_close(torch.linalg.matrix_norm(layer.weight.float(), 2).item(), 0.7, rtol=3e-2, atol=0)


def test_a_norm_may_be_learned_for_every_channel():
    layer = deq.nn.spectral_norm_(nn.Linear(6, 4), bound=0.8, learned=True, iterations=30)
    torch.testing.assert_close(torch.linalg.matrix_norm(layer.weight, 2), torch.tensor(0.8))
    scale = dict(layer.named_parameters())["parametrizations.weight.0.scale"]
    assert torch.equal(scale, torch.full((4, 1), 0.8))
    layer.weight.sum().backward()
    assert scale.grad is not None
    assert "bound=0.8, learned=True" in repr(layer)


def test_a_clip_bounds_the_factor():
    layer = nn.Linear(6, 4)
    before = layer.weight.detach().clone()
    deq.nn.spectral_norm_(layer, bound=100.0, clip=1.0)
    assert torch.equal(layer.weight, before)


def test_keys_are_torchs_own():
    ours, theirs = deq.nn.spectral_norm_(nn.Conv2d(3, 4, 3)), spectral_norm(nn.Conv2d(3, 4, 3))
    ours.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(ours.eval().weight, theirs.eval().weight)


def test_a_transposed_convolution_is_normalised_over_its_outputs():
    layer = deq.nn.spectral_norm_(nn.ConvTranspose2d(3, 5, 2), iterations=50)
    matrix = layer.weight.transpose(0, 1).flatten(1)
    torch.testing.assert_close(torch.linalg.matrix_norm(matrix, 2), torch.tensor(1.0), rtol=1e-3, atol=0)


@pytest.mark.parametrize("normalised", [deq.nn.spectral_norm_, by_torch])
def test_the_vectors_advance_once_a_solve(x, normalised):
    cell = normalised(Cell())
    vectors = [singular_vector(cell.inner)]
    for _ in range(2):
        solution = solve(cell, x, deq.Implicit())
        inside = singular_vector(cell.inner)
        solution.value.sum().backward()
        assert torch.equal(singular_vector(cell.inner), inside)
        assert not torch.equal(inside, vectors[-1])
        vectors.append(inside)


@pytest.mark.parametrize("normalised", [partial(deq.nn.spectral_norm_, bound=0.9), by_torch])
def test_implicit_and_unrolled_gradients_agree_though_other_solves_come_between(x, normalised):
    gradients = []
    for adjoint in (deq.Implicit(stop=TIGHT), deq.Unrolled()):
        cell = normalised(Cell())
        solution = solve(cell, x, adjoint)
        solve(cell, 2 * x, adjoint)
        gradients.append(torch.autograd.grad(solution.value.square().sum(), list(cell.parameters())))
    for left, right in zip(*gradients, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-9, atol=1e-10)


def test_evaluation_leaves_the_vectors_alone(x):
    cell = deq.nn.spectral_norm_(Cell()).eval()
    before = singular_vector(cell.inner)
    solve(cell, x, deq.Implicit())
    assert torch.equal(singular_vector(cell.inner), before)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: deq.nn.spectral_norm_(Cell(), bound=0.0), "bound must be above 0"),
        (lambda: deq.nn.spectral_norm_(Cell(), iterations=0), "iterations at least 1"),
        (lambda: deq.nn.spectral_norm_(Cell(), clip=0.0), "clip must be None or above 0"),
        (lambda: deq.nn.spectral_norm_(Cell(), skip=("iner",)), r"skip names no module: \['iner'\]"),
        (lambda: deq.nn.spectral_norm_(deq.nn.weight_norm_(Cell())), "'inner' is parametrised already"),
    ],
)
def test_impossible_settings_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
