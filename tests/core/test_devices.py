"""The same solves on every device that is there: the CPU, and CUDA where the machine has it."""

import pytest
import torch
from tests.gradients import cosine
from tests.problems import SOLVERS
from torch import nn

import deq_core as deq

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
ADJOINTS = [deq.Implicit(), deq.Phantom(3), deq.Unrolled(), deq.Truncated(), deq.JacobianFree(), deq.Reversible()]


class Cell(nn.Module):
    """Everything that keeps something for a solve."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = deq.nn.weight_norm_(nn.Conv2d(4, 4, 3, padding=1))
        self.mix = deq.nn.spectral_norm_(nn.Conv2d(4, 4, 1), bound=0.5)
        self.drop = deq.nn.VariationalDropout(0.2, shared=(2, 3))

    def forward(self, z, x):
        return torch.tanh(self.mix(self.drop(torch.tanh(self.conv(z)))) + x)


def inject(device):
    return torch.randn(3, 4, 8, 9, generator=torch.Generator().manual_seed(1)).to(device)


@pytest.fixture(params=DEVICES)
def device(request):
    return torch.device(request.param)


@pytest.mark.parametrize("solver", SOLVERS)
def test_solutions_agree_with_those_in_double_precision(device, solver):
    x, cell = inject(device), Cell().to(device).eval()
    stop = deq.Stop(60, 1e-4)
    with torch.no_grad():
        found = deq.fixed_point(
            lambda z: cell(z, x), torch.zeros_like(x), solver=SOLVERS[solver], stop=stop, record=(3,)
        )
        cell, x = cell.double().cpu(), x.double().cpu()
        exact = deq.fixed_point(lambda z: cell(z, x), torch.zeros_like(x), stop=deq.Stop(60, 1e-11))
    assert found.converged.all()
    for tensor in (found.value, found.residual, found.steps, found.converged, found.trace, found.trajectory[0]):
        assert tensor.device.type == device.type
    torch.testing.assert_close(found.value.double().cpu(), exact.value, rtol=0, atol=2e-3)


@pytest.mark.parametrize("adjoint", ADJOINTS, ids=lambda adjoint: adjoint.kind)
def test_gradients_agree_with_those_in_double_precision(device, adjoint):
    found = []
    for where, dtype in ((device, torch.float32), (torch.device("cpu"), torch.float64)):
        cell, x = Cell().eval().to(where, dtype), inject(where).to(dtype)
        solution = deq.fixed_point(
            lambda z, c=cell, x=x: c(z, x), torch.zeros_like(x), stop=deq.Stop(30, None), adjoint=adjoint
        )
        gradient = torch.autograd.grad(solution.value.square().sum(), list(cell.parameters()))
        found.append([part.double().cpu() for part in gradient])
    assert cosine(*found) > 1 - 1e-5


def test_one_mask_serves_a_solve(device):
    x, cell = inject(device), Cell().to(device)
    solution = deq.fixed_point(lambda z: cell(z, x), torch.zeros_like(x), stop=deq.Stop(60, 1e-4))
    assert solution.converged.all()
    solution.value.sum().backward()
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in cell.parameters())


def test_noise_is_refused(device):
    with pytest.raises(ValueError, match="Use VariationalDropout"):
        deq.fixed_point(lambda z: nn.functional.dropout(torch.cos(z)), torch.zeros(3, 8, device=device))


def test_every_evaluation_runs_under_the_callers_autocast(device):
    x, cell = inject(device), Cell().to(device)
    dtypes = []

    def f(z):
        dtypes.append(cell.conv(z).dtype)
        return cell(z, x)

    for adjoint in (deq.Implicit(on_failure="ignore"), deq.Reversible()):
        with torch.autocast(device.type, dtype=torch.bfloat16):
            solution = deq.fixed_point(f, torch.zeros_like(x), stop=deq.Stop(8, None), adjoint=adjoint)
        solution.value.float().sum().backward()
    assert set(dtypes) == {torch.bfloat16}


def test_without_a_tolerance_the_host_does_not_wait(device):
    x, cell = inject(device), Cell().to(device).eval()
    z0 = torch.zeros_like(x)
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.no_grad():
            for solver in (deq.FixedPointIteration(), deq.FixedPointIteration(damping=0.2)):
                solution = deq.fixed_point(lambda z: cell(z, x), z0, solver=solver, stop=deq.Stop(6, None), record=(2,))
    finally:
        if device.type == "cuda":
            torch.cuda.set_sync_debug_mode("default")
    assert solution.nfe == 6


def test_training_aids_draw_the_same_numbers_for_every_device(device):
    found = []
    for where in (device, torch.device("cpu")):
        x, cell, generator = inject(where), Cell().to(where).eval(), torch.Generator().manual_seed(0)
        f = lambda z, flow, c=cell, x=x: (c(z, x), 0.5 * flow + z[:, :2])  # noqa: E731
        z = x, x[:, :2]
        move = deq.nn.MoveMaps(scale=(0.0, 0.4), noise=(0.0, 0.5))
        mixed, touched = deq.nn.mix_initial_states(z, 0.8, move=move, generator=generator)
        stop = deq.Stop(60, parts=(deq.Part(1e-4), deq.Part(1e-3, relative=False)))
        sol = deq.fixed_point(f, mixed, stop=stop)
        penalty = deq.nn.contraction(f, mixed, bound=0.0, floors=(0.0, 0.1), generator=generator)
        radius = deq.nn.spectral_radius(f, sol.value, iterations=40, generator=generator)
        tensors = (*mixed, touched, sol.parts, penalty, radius)
        assert all(tensor is not None and tensor.device.type == where.type for tensor in tensors)
        assert sol.converged.all()
        found.append([tensor.detach().cpu() for tensor in (*mixed, touched, penalty, radius)])
    for here, there in zip(*found, strict=True):
        torch.testing.assert_close(here, there, rtol=2e-2, atol=1e-4)


def test_the_delta_rule_is_exact_at_threshold_zero(device):
    x, cell = inject(device), Cell().to(device).eval()
    delta, meter = deq.delta.to_delta(cell, 0.0)
    options = {"solver": deq.FixedPointIteration(), "stop": deq.Stop(8, None)}
    with torch.no_grad():
        dense = deq.fixed_point(lambda z: cell(z, x), torch.zeros_like(x), **options)
        sparse = deq.fixed_point(lambda z: delta(z, x), torch.zeros_like(x), **options)
    torch.testing.assert_close(sparse.value, dense.value, rtol=0, atol=1e-4)
    assert 0 < meter.sparse_macs <= meter.dense_macs


def test_streams_live_where_their_states_do(device):
    x, stream = inject(device), deq.nn.Stream()
    f = lambda z: torch.tanh(z / 2 + x)  # noqa: E731  the closure is the point
    stream.update(deq.fixed_point(f, torch.zeros_like(x)), "abc")
    for _ in range(2):
        start = deq.nn.warm_start(stream.state("abc"), torch.zeros_like(x))
        solution = deq.fixed_point(f, start)
        assert solution.steps.max() <= 2
        assert stream.update(solution, "abc").device.type == device.type
