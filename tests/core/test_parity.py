"""The solvers and gradients of torchdeq 0.1, reproduced in its settings.

The golden problem is f(z) = tanh(z Wᵀ + x Uᵀ + b) in float64, B = 4, n = 32, z0 = 0, every tensor drawn by name.
torchdeq's traces begin with a placeholder, left out of the golden file; its Anderson makes two evaluations, its
Broyden one, before the first that it traces, and its Broyden returns the state whose image is returned here.
"""

import json
import zlib
from pathlib import Path

import pytest
import torch

import deq_core as deq

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "solver.json").read_text())
UNTRACED = {"fixed_point_iter": 0, "anderson": 2, "broyden": 1}


def named(name, *shape):
    """A normal tensor seeded by its name."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    return torch.randn(*shape, generator=generator, dtype=torch.float32).double()


class Golden:
    def __init__(self):
        weight = named("solver.W", 32, 32)
        weight = weight + 0.6 * weight.T
        self.W = (weight * (0.9 / torch.linalg.matrix_norm(weight, 2))).requires_grad_()
        self.U = (named("solver.U", 32, 16) / 16).requires_grad_()
        self.b = (0.1 * named("solver.b", 32)).requires_grad_()
        self.x = named("solver.x", 4, 16).requires_grad_()
        self.c = named("solver.c", 4, 32)
        self.z0 = torch.zeros(4, 32, dtype=torch.float64)

    def f(self, z):
        return torch.tanh(z @ self.W.T + self.x @ self.U.T + self.b)

    def check_gradients(self, loss, golden, tolerance):
        names = ("W", "U", "b", "x")
        found = torch.autograd.grad(loss, [getattr(self, name) for name in names])
        for name, gradient in zip(names, found, strict=True):
            expected = golden[name]
            probe = named(f"probe.{name}", *gradient.shape)
            scale = expected["norm"]
            assert gradient.norm().item() == pytest.approx(expected["norm"], rel=tolerance)
            assert (gradient * probe).sum().item() == pytest.approx(expected["dot"], abs=tolerance * 10 * scale)
            assert gradient.flatten()[:6].tolist() == pytest.approx(expected["head"], abs=tolerance * scale)


@pytest.fixture
def golden():
    return Golden()


def released(run):
    """The run's configuration in our words."""
    options = run["kwargs"]
    damping = 1 - options.get("tau", 1.0)
    match run["solver"]:
        case "anderson":
            solver = deq.Anderson(options.get("m", 6), options.get("lam", 1e-4), damping, relative_ridge=False)
        case "broyden":
            solver = deq.Broyden()
        case _:
            solver = deq.FixedPointIteration(damping)
    return solver, damping


@pytest.mark.parametrize("name", GOLDEN["solvers"])
def test_solvers_retrace_the_released_ones(golden, name):
    run = GOLDEN["solvers"][name]
    solver, damping = released(run)
    stop = deq.Stop(run["f_calls"], None, relative=False)
    seen = []

    def f(z):
        seen.append(z)
        return golden.f(z)

    with torch.no_grad():
        solution = deq.fixed_point(f, golden.z0, solver=solver, stop=stop)
    skipped = UNTRACED[run["solver"]]
    trace = solution.trace[skipped:].T
    # The damped iteration's release traces the damped difference.
    trace = trace * (1 - damping) if run["solver"] == "fixed_point_iter" else trace
    expected = torch.tensor(run["abs_trace"], dtype=torch.float64)[:, : trace.shape[1]]
    comparable = 12 if run["solver"] == "broyden" else 40  # beyond, Broyden's rounding is amplified
    torch.testing.assert_close(trace[:, :comparable], expected[:, :comparable], rtol=1e-6, atol=1e-13)

    head = torch.tensor(run["z_head"], dtype=torch.float64)
    if run["solver"] == "broyden":
        best = torch.tensor(run["abs_trace"]).argmin(1)
        last = torch.stack([seen[skipped + step][sample] for sample, step in enumerate(best.tolist())])
    else:
        last = (
            solution.value
            if damping == 0 or run["solver"] == "anderson"
            else damping * seen[-1] + (1 - damping) * solution.value
        )
    torch.testing.assert_close(last[:, :8], head, rtol=0, atol=1e-8)


@pytest.mark.parametrize("name", ["fp_rel1e-3", "anderson_rel1e-3", "broyden_rel1e-3"])
def test_tolerances_are_reached_after_as_many_evaluations(golden, name):
    run = GOLDEN["solvers"][name]
    solver, _ = released(run)
    with torch.no_grad():
        solution = deq.fixed_point(golden.f, golden.z0, solver=solver, stop=deq.Stop(100, 1e-3))
    assert solution.nfe == run["f_calls"]
    assert solution.converged.all()


@pytest.mark.parametrize("name", ["fp_indexing", "anderson_indexing"])
def test_indexed_states_are_the_recorded_ones(golden, name):
    run = GOLDEN["solvers"][name]
    solver, _ = released(run)
    record = run["kwargs"]["indexing"]
    with torch.no_grad():
        stop = deq.Stop(run["f_calls"], None, relative=False)
        solution = deq.fixed_point(golden.f, golden.z0, solver=solver, stop=stop, record=record)
    heads = torch.stack([state[0, :4] for state in solution.trajectory])
    torch.testing.assert_close(heads, torch.tensor(run["indexed_head"], dtype=torch.float64), rtol=0, atol=1e-9)


FORWARD = {"solver": deq.FixedPointIteration(), "stop": deq.Stop(300, 1e-13, relative=False)}
GRADIENTS = {
    "indexing.ift.fp": (deq.Implicit(deq.FixedPointIteration(), deq.Stop(300, 1e-13)), 1e-10),
    "indexing.ift.broyden": (deq.Implicit(deq.Broyden(), deq.Stop(60, 1e-13)), 1e-10),
    # The release starts from zero, so its first evaluation returns the incoming gradient itself.
    "indexing.ift.fp.b5": (deq.Implicit(deq.FixedPointIteration(), deq.Stop(4, None)), 1e-10),
    "indexing.phantom1": (deq.Phantom(), 1e-10),
    "indexing.phantom3": (deq.Phantom(steps=3), 1e-10),
    "indexing.phantom5_tau0.5": (deq.Phantom(steps=5, damping=0.5), 1e-10),
}


@pytest.mark.parametrize("name", GRADIENTS)
def test_gradients_are_the_released_ones(golden, name):
    adjoint, tolerance = GRADIENTS[name]
    solution = deq.fixed_point(golden.f, golden.z0, adjoint=adjoint, **FORWARD)
    golden.check_gradients((solution.value * golden.c).sum(), GOLDEN["gradients"][name]["grads"], tolerance)


def test_the_exact_gradient_is_reached(golden):
    adjoint = deq.Implicit(stop=deq.Stop(100, 1e-14))
    solution = deq.fixed_point(golden.f, golden.z0, stop=deq.Stop(100, 1e-14), adjoint=adjoint)
    torch.testing.assert_close(
        solution.value, torch.tensor(GOLDEN["exact"]["z"], dtype=torch.float64), rtol=0, atol=1e-13
    )
    golden.check_gradients((solution.value * golden.c).sum(), GOLDEN["exact"]["grads"], 1e-11)


@pytest.mark.parametrize(("name", "record"), [("nstates3_phantom2", (4, 8)), ("indexing_4_8", (4, 8))])
def test_several_supervised_states(golden, name, record):
    stop, adjoint = deq.Stop(12, None, relative=False), deq.Phantom(steps=2)
    solution = deq.fixed_point(
        golden.f, golden.z0, solver=deq.FixedPointIteration(), stop=stop, adjoint=adjoint, record=record
    )
    states = (*solution.trajectory, solution.value)
    loss = torch.stack([(i + 1) * (state * golden.c).sum() for i, state in enumerate(states)]).sum()
    run = GOLDEN["gradients"][f"indexing.{name}"]
    assert loss.item() == pytest.approx(run["loss"], rel=1e-12)
    golden.check_gradients(loss, run["grads"], 1e-10)


def test_the_sliced_container_is_several_solves(golden):
    stop, adjoint = deq.Stop(4, None, relative=False), deq.Phantom(steps=2)
    loss, z = torch.zeros((), dtype=torch.float64), golden.z0
    for i in range(3):
        solution = deq.fixed_point(golden.f, z, solver=deq.FixedPointIteration(), stop=stop, adjoint=adjoint)
        loss, z = loss + (i + 1) * (solution.value * golden.c).sum(), solution.value.detach()
    run = GOLDEN["gradients"]["sliced.nstates3_phantom2"]
    assert loss.item() == pytest.approx(run["loss"], rel=1e-12)
    golden.check_gradients(loss, run["grads"], 1e-10)


@pytest.mark.parametrize("count", [1, 2])
def test_the_jacobian_penalty(golden, count):
    z = torch.tensor(GOLDEN["exact"]["z"], dtype=torch.float64)
    probes = [named(f"solver.jac_probe.{k}", 4, 32) for k in range(count)]
    value = deq.jacobian_frobenius(golden.f, z, probes=probes).mean().item()
    assert value == pytest.approx(GOLDEN[f"jac_reg_vecs{count}"], rel=1e-12)


def test_the_spectral_radius(golden):
    z = torch.tensor(GOLDEN["exact"]["z"], dtype=torch.float64)
    radius = deq.spectral_radius(golden.f, z, iterations=200, generator=torch.Generator().manual_seed(0))
    assert radius.tolist() == pytest.approx(GOLDEN["exact"]["jac_spectral_radius"], rel=1e-3)


def test_the_correction_weights():
    losses = [float((prediction - 5) ** 2) for prediction in (0, 1, 2)]
    total = sum(w * loss for w, loss in zip(deq.exponential_weights(3, 0.8), losses, strict=True))
    assert total == pytest.approx(GOLDEN["fp_correction"]["exp"])
