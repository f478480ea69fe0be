"""The gradients, penalties and norms of torchdeq 0.1, reproduced from its own configurations."""

import math

import pytest
import torch
from tests.released import GOLDEN, Golden, named
from torch import nn

import deq_core as deq


@pytest.fixture
def golden():
    return Golden()


def solve(converted, f, z0):
    """The supervised states, as torchdeq's containers return them in training."""
    states, z = [], z0
    for layer in converted.layers:
        solution = layer(f, z, record=converted.record)
        states += [*solution.trajectory, solution.value]
        z = solution.value.detach()
    return states


@pytest.mark.filterwarnings("ignore::deq_core.ConvergenceWarning")
@pytest.mark.parametrize("name", GOLDEN["gradients"])
def test_a_configuration_gives_its_gradient(golden, name):
    """All that were recorded: both containers, implicit, truncated and phantom gradients, several supervised states."""
    run = GOLDEN["gradients"][name]
    options = dict(run["config"])
    if name.endswith("ift.fp.b5"):
        # The release starts from zero, so its first evaluation returns the incoming gradient itself.
        options["b_max_iter"] -= 1
    states = solve(deq.compat.from_torchdeq(options), golden.f, golden.z0)
    assert len(states) == run["n_out"]
    for state, expected in zip(states, run["outs"], strict=True):
        assert state[0, :4].tolist() == pytest.approx(expected["head"], abs=1e-12)
    # Its Anderson stalls in the backward pass, as it does in the forward one.
    tolerance = 1e-4 if name.endswith("ift.anderson") else 1e-10
    loss = golden.loss(states)
    assert loss.item() == pytest.approx(run["loss"], rel=1e-12)
    golden.check_gradients(loss, run["grads"], tolerance)


def test_the_exact_gradient_is_reached(golden):
    adjoint = deq.Implicit(stop=deq.Stop(100, 1e-14))
    solution = deq.fixed_point(golden.f, golden.z0, stop=deq.Stop(100, 1e-14), adjoint=adjoint)
    exact = torch.tensor(GOLDEN["exact"]["z"], dtype=torch.float64)
    torch.testing.assert_close(solution.value, exact, rtol=0, atol=1e-13)
    golden.check_gradients(golden.loss([solution.value]), GOLDEN["exact"]["grads"], 1e-11)


@pytest.mark.parametrize("count", [1, 2])
def test_the_jacobian_penalty(golden, count):
    z = torch.tensor(GOLDEN["exact"]["z"], dtype=torch.float64)
    probes = [named(f"solver.jac_probe.{k}", 4, 32) for k in range(count)]
    value = deq.nn.jacobian_frobenius(golden.f, z, probes=probes).mean().item()
    assert value == pytest.approx(GOLDEN[f"jac_reg_vecs{count}"], rel=1e-12)


def test_the_spectral_radius(golden):
    z = torch.tensor(GOLDEN["exact"]["z"], dtype=torch.float64)
    radius = deq.nn.spectral_radius(golden.f, z, iterations=200, generator=torch.Generator().manual_seed(0))
    assert radius.tolist() == pytest.approx(GOLDEN["exact"]["jac_spectral_radius"], rel=1e-3)


def test_the_correction_weights():
    losses = [float((prediction - 5) ** 2) for prediction in (0, 1, 2)]
    total = sum(w * loss for w, loss in zip(deq.nn.exponential_weights(3, 0.8), losses, strict=True))
    assert total == pytest.approx(GOLDEN["fp_correction"]["exp"])


def filled(name, shape):
    """A checkpoint's entry, as the recording filled it: in single precision."""
    value, leaf = named(name, *shape).float(), name.rsplit(".", 1)[-1]
    if leaf in ("weight_u", "weight_v") and len(shape) == 1:
        return value / value.norm()
    if leaf == "weight_g":
        return 0.5 + 0.1 * value.abs()
    return 0.05 * value if len(shape) == 1 else value * (1 / math.sqrt(math.prod(shape[1:])))


def advanced(checkpoint, layer):
    """torchdeq's power iteration: v from u and then u from v. torch's own begins with the other."""
    key = f"{layer}.parametrizations.weight"
    weight = checkpoint[f"{key}.original"].double()
    matrix = (weight.transpose(0, 1) if layer == "convt" else weight).flatten(1)
    v = nn.functional.normalize(matrix.T @ checkpoint[f"{key}.0._u"].double(), dim=0)
    checkpoint[f"{key}.0._v"], checkpoint[f"{key}.0._u"] = v, nn.functional.normalize(matrix @ v, dim=0)


@pytest.mark.parametrize("kind", GOLDEN["norms"])
def test_a_normed_checkpoint_has_its_weights(kind):
    run = GOLDEN["norms"][kind]
    cell = nn.ModuleDict(
        {"lin": nn.Linear(8, 6), "conv": nn.Conv2d(4, 5, 3), "convt": nn.ConvTranspose2d(4, 5, 3)}
    ).double()
    deq.compat.from_torchdeq({"norm_type": kind}).norm(cell)
    ours = {
        "weight_norm": {"weight_g": "original0", "weight_v": "original1"},
        "spectral_norm": {"weight_orig": "original", "weight_g": "0.scale", "weight_u": "0._u", "weight_v": "0._v"},
    }[kind]
    checkpoint = {}
    for name, shape in run["keys"].items():
        layer, leaf = name.split(".")
        checkpoint[f"{layer}.parametrizations.weight.{ours[leaf]}" if leaf in ours else name] = filled(name, shape)
    if kind == "spectral_norm":
        for layer in cell:
            advanced(checkpoint, layer)
    cell.eval().load_state_dict(checkpoint)
    for name, expected in run["weights"].items():
        weight = cell.get_submodule(name).weight
        assert isinstance(weight, torch.Tensor)
        assert weight.norm().item() == pytest.approx(expected["norm"], rel=1e-6)
        assert weight.flatten()[:6].tolist() == pytest.approx(expected["head"], abs=1e-7)
    for name, head in run["buffers_after"].items():
        layer, leaf = name.split(".")
        assert checkpoint[f"{layer}.parametrizations.weight.{ours[leaf]}"][:3].tolist() == pytest.approx(head, abs=1e-6)
