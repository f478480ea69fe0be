"""A DEQ trained by two processes is the one that a single process trains on the whole batch."""

from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

import deq_core as deq

PROCESSES, STEPS = 2, 2
ADJOINTS: dict[str, deq.Adjoint] = {
    "implicit": deq.Implicit(stop=deq.Stop(60, 1e-12)),
    "gmres": deq.Implicit(deq.GMRES(), deq.Stop(60, 1e-12)),
    "phantom": deq.Phantom(2),
    "unrolled": deq.Unrolled(),
    "truncated": deq.Truncated(),
    "jacobian_free": deq.JacobianFree(),
    "shine": deq.SHINE(refine=deq.Implicit(stop=deq.Stop(60, 1e-12))),
    "reversible": deq.Reversible(),
}


class Layer(nn.Module):
    def __init__(self, adjoint: deq.Adjoint) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inject = nn.Linear(6, 6, dtype=torch.float64)
        self.cell = deq.nn.weight_norm_(nn.Linear(6, 6, dtype=torch.float64))
        solver = deq.Broyden() if isinstance(adjoint, deq.SHINE) else None
        self.deq = deq.nn.DEQ(adjoint=adjoint, solver=solver, stop=deq.Stop(60, 1e-12), on_failure="ignore")

    def forward(self, x: Tensor) -> Tensor:
        injected = self.inject(x)
        return self.deq(lambda z: torch.tanh(0.5 * self.cell(z) + injected), torch.zeros_like(x)).value


def batches() -> Tensor:
    """(STEPS, 2 · PROCESSES, 6)."""
    return torch.randn(STEPS, 2 * PROCESSES, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def loss(layer: nn.Module, x: Tensor) -> Tensor:
    return layer(x).square().sum()


def alone(adjoint: deq.Adjoint) -> dict[str, Tensor]:
    """The trained layer."""
    layer = Layer(adjoint)
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)
    for x in batches():
        optimiser.zero_grad()
        (loss(layer, x) / PROCESSES).backward()
        optimiser.step()
    return layer.state_dict()


def together(rank: int, folder: Path) -> None:
    """Writes the layers that this process has trained on its half of each batch, sample by sample."""
    torch.set_num_threads(1)
    store, wait = f"file://{folder}/store", timedelta(seconds=60)
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=PROCESSES, timeout=wait)
    found = {}
    for name, adjoint in ADJOINTS.items():
        layer = Layer(adjoint)
        parallel = DistributedDataParallel(layer)
        optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)
        for x in batches():
            first, second = x[rank::PROCESSES].split(1)
            optimiser.zero_grad()
            with parallel.no_sync():
                loss(parallel, first).backward()
            loss(parallel, second).backward()
            optimiser.step()
        found[name] = layer.state_dict()
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> list[dict[str, dict[str, Tensor]]]:
    """process -> adjoint -> state of the layer."""
    folder = tmp_path_factory.mktemp("together")
    spawn(together, (folder,), nprocs=PROCESSES)
    return [torch.load(folder / f"{rank}.pt") for rank in range(PROCESSES)]


@pytest.mark.parametrize("adjoint", ADJOINTS)
def test_two_processes_train_what_one_does(trained, adjoint):
    expected = alone(ADJOINTS[adjoint])
    for found in trained:
        for key, value in expected.items():
            torch.testing.assert_close(found[adjoint][key], value, rtol=1e-9, atol=1e-9)
    assert all(torch.equal(trained[0][adjoint][key], trained[1][adjoint][key]) for key in expected)
    begun = Layer(ADJOINTS[adjoint]).state_dict()
    assert all((expected[key] - begun[key]).abs().max() > 1e-3 for key in expected), "the layer was not trained"
