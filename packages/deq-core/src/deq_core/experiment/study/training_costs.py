"""Memory for the backward pass and time of a training step, by gradient and number of evaluations of f."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from statistics import median
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from deq_core.experiment import distributed
from deq_core.experiment.config import Name, Once
from deq_core.experiment.config.layer import Adjoint, LayerConfig, Solver, StopConfig
from deq_core.experiment.seeding import seed_everything
from deq_core.experiment.study.stage import Job, Single, Stage
from deq_core.experiment.tables import Row, grouped


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Configuration of the comparison. Networks are untrained and inputs random, since only shapes matter."""

    gradients: dict[Name, Adjoint]
    steps: Once[int]
    """Numbers of evaluations of f in a solve; no tolerance ends it earlier."""
    solver: Solver
    """Solver of the forward pass, for all gradients."""
    repeats: int
    """Number of repetitions; the median time is reported."""
    batch_size: int
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        if not self.gradients or not self.steps:
            raise ValueError("gradients, steps: expected one of each at least")
        if min(*self.steps, self.repeats, self.batch_size, self.threads) < 1:
            raise ValueError("steps, repeats, batch_size, threads: expected numbers from 1 on")
        for gradient in self.gradients:
            self.choices(gradient, self.steps[0])

    def choices(self, gradient: Name, steps: int) -> dict[str, Any]:
        """Fields of the domains' `Equilibrium` for this gradient and number of evaluations.

        Raises:
            ValueError: the gradient does not support the solver.
        """
        stop = StopConfig(max_steps=steps)
        return LayerConfig(solver=self.solver, stop=stop, adjoint=self.gradients[gradient]).choices()


Compared = TypeVar("Compared", bound=Costs)


@dataclass
class SavedStorages:
    """Sizes of the storages that autograd saves."""

    own: set[int]
    """Addresses of the parameters, which are not counted."""
    bytes_of: dict[int, int] = field(default_factory=dict)
    """{address of a storage: its bytes}."""

    def pack(self, tensor: Tensor) -> Tensor:
        """Hook that autograd calls with each tensor it saves."""
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self.own:
            self.bytes_of[storage.data_ptr()] = storage.nbytes()
        return tensor


def saved_bytes(parameters: Iterable[Tensor], forward: Callable[[], object]) -> int:
    """Bytes that autograd saves in `forward` for the backward pass, each storage once, without `parameters`."""
    saved = SavedStorages({parameter.untyped_storage().data_ptr() for parameter in parameters})
    with saved_tensors_hooks(saved.pack, lambda tensor: tensor):
        kept = forward()
    total = sum(saved.bytes_of.values())
    del kept  # alive until here, so that no address is reused
    return total


def training_costs(network: nn.Module, loss: Callable[[], Tensor], config: Costs) -> list[Row]:
    """One row for each gradient and number of evaluations: `bytes` saved for backward, `seconds` of loss and gradients.

    Time is process time on the CPU and wall-clock time on CUDA. Settings are measured in turns.

    Args:
        network: network with an attribute `equilibrium`, whose solver, stop and adjoint are replaced.
        loss: computes the loss of the network, always on the same batch.
        config: configuration of the comparison.
    """
    torch.set_num_threads(config.threads)
    network.train()
    own: Any = network.equilibrium
    settings = {
        (gradient, steps): replace(own, **config.choices(gradient, steps))
        for gradient, steps in product(config.gradients, config.steps)
    }
    saved, seconds = dict[tuple[str, int], int](), dict[tuple[str, int], list[float]]()
    for setting, equilibrium in settings.items():
        network.equilibrium = equilibrium
        saved[setting] = saved_bytes(network.parameters(), loss)
        step(network, loss)  # warm-up
    for _, (setting, equilibrium) in product(range(config.repeats), settings.items()):
        network.equilibrium = equilibrium
        begun = clock(config.device)
        step(network, loss)
        seconds.setdefault(setting, []).append(clock(config.device) - begun)
    network.equilibrium = own
    return [
        {"gradient": gradient, "steps": steps, "bytes": saved[gradient, steps], "seconds": median(taken)}
        for (gradient, steps), taken in seconds.items()
    ]


def costs_stage(
    domain: str,
    kind: type[Compared],
    made: Callable[[Compared, torch.device], tuple[nn.Module, Callable[[], Tensor]]],
) -> Stage[Single, Compared]:
    """The stage `training_costs` of a domain, whose table `steps` has the rows of `training_costs`.

    Args:
        domain: section of params.yaml, with the configuration under `costs`.
        kind: dataclass of the configuration.
        made: makes the network and its loss on a batch, on a device.
    """

    def measure(job: Job[Single, Compared]) -> Mapping[str, Any]:
        config = job.settings
        seed_everything(0)
        network, loss = made(config, distributed.device(config.device))
        job.tables["steps"] = training_costs(network, loss, config)
        return summary(job.tables["steps"])

    return Stage(
        name=f"{domain}.training_costs",
        section=domain,
        case=Single,
        settings=lambda section, case: section.load(kind, "costs"),
        run=measure,
    )


def step(network: nn.Module, loss: Callable[[], Tensor]) -> None:
    """Computes loss and gradients, without an update."""
    network.zero_grad(set_to_none=True)
    loss().backward()


def clock(device: str) -> float:
    """Seconds of process time on the CPU, of wall-clock time on CUDA."""
    if device == "cpu":
        return time.process_time()
    torch.cuda.synchronize(distributed.device(device))
    return time.perf_counter()


def summary(rows: list[Row]) -> Mapping[str, Any]:
    """{gradient: {evaluations: {bytes, seconds}}}."""
    return {
        gradient: {str(row["steps"]): {key: row[key] for key in ("bytes", "seconds")} for row in of_gradient}
        for (gradient,), of_gradient in grouped(rows, ("gradient",)).items()
    }
