"""The Jacobian penalty against a dense Jacobian."""

import math

import pytest
import torch
from tests.problems import PROBLEMS

import deq_core as deq


def dense_jacobian(f, z):
    """(B, n, n) of a map that keeps samples apart."""
    full = torch.autograd.functional.jacobian(f, z)
    batch, size = len(z), z[0].numel()
    full = full.reshape(batch, size, batch, size)
    return torch.stack([full[b, :, b] for b in range(batch)])


@pytest.fixture
def problem():
    return PROBLEMS["tanh"]()


def test_hutchinsons_estimate_is_unbiased(problem):
    z = problem.solution()
    exact = dense_jacobian(problem.f, z).square().sum((1, 2)) / z.shape[1]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        estimate = deq.nn.jacobian_frobenius(problem.f, z, probes=3000, generator=generator)
    torch.testing.assert_close(estimate, exact, rtol=0.05, atol=0)


def test_orthonormal_probes_give_the_norm_exactly(problem):
    z = problem.solution()
    size = z.shape[1]
    basis = math.sqrt(size) * torch.eye(size, dtype=z.dtype)
    probes = [row.expand_as(z) for row in basis]
    exact = dense_jacobian(problem.f, z).square().sum((1, 2)) / size
    torch.testing.assert_close(deq.nn.jacobian_frobenius(problem.f, z, probes=probes), exact)


def test_the_penalty_is_differentiable_in_what_f_closes_over(problem):
    z = problem.solution()
    weight, _ = problem.parameters
    probe = torch.ones_like(z)

    def penalty(weight):
        f = lambda z: torch.tanh(z @ weight.T)  # noqa: E731  the closure is the point
        return deq.nn.jacobian_frobenius(f, z, probes=[probe])

    assert penalty(weight).shape == (4,)
    assert torch.autograd.gradcheck(penalty, (weight,))


def test_the_penalty_takes_states_of_several_tensors():
    pair = PROBLEMS["pair"]()
    values = deq.nn.jacobian_frobenius(pair.f, pair.z0, generator=torch.Generator().manual_seed(0))
    assert values.shape == (3,)
    assert (values > 0).all()


def test_the_estimate_repeats_with_its_generator(problem):
    z = problem.solution()
    values = [
        deq.nn.jacobian_frobenius(problem.f, z, generator=torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    ]
    assert torch.equal(values[0], values[1])
    assert not torch.equal(values[0], values[2])


def test_inference_mode_changes_no_estimate(problem):
    z = problem.solution()
    found = []
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            generator = torch.Generator().manual_seed(0)
            found.append(deq.nn.jacobian_frobenius(problem.f, z.clone(), generator=generator))
    assert torch.equal(*found)


def test_a_constant_map_has_no_slope():
    image = torch.ones(2, 3)
    assert deq.nn.jacobian_frobenius(lambda z: image, torch.zeros(2, 3)).eq(0).all()


def test_exponential_weights_end_at_one():
    assert deq.nn.exponential_weights(4, 0.5) == (0.125, 0.25, 0.5, 1.0)
    assert deq.nn.exponential_weights(1) == (1.0,)


@pytest.mark.parametrize(
    "call",
    [
        lambda: deq.nn.jacobian_frobenius(torch.cos, torch.zeros(1, 1), probes=0),
        lambda: deq.nn.jacobian_frobenius(torch.cos, torch.zeros(1, 1), probes=[]),
        lambda: deq.nn.exponential_weights(0),
        lambda: deq.nn.exponential_weights(2, 0.0),
    ],
)
def test_impossible_settings_are_refused(call):
    with pytest.raises(ValueError, match=r"must be (at least|above)"):
        call()
