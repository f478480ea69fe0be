"""The recipe of the shipped checkpoint: training on generated pairs in phases, from a seed."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch.utils.data import Subset

from deq_core.experiment.config.layer import LayerConfig
from deq_core.experiment.config.optim import Every, OptimConfig
from deq_core.experiment.config.recipe import Updates
from deq_core.experiment.data.photographs import TRAINING, VALIDATION, load_all
from deq_core.experiment.seeding import derive, seed_everything
from deq_core.experiment.tracking.log import Log
from deq_core.experiment.training.fit import fit, keep, numbered
from deq_core.experiment.training.update import Row
from deq_flow.config import Scales
from deq_flow.data.augment import AugmentConfig
from deq_flow.data.batches import batches
from deq_flow.data.mini.generated import Generated, GeneratedConfig
from deq_flow.models import DEQFlow
from deq_flow.networks import build_network
from deq_flow.params import Coarser, EquilibriumModel, Stabilise
from deq_flow.training.objective import Objective
from deq_flow.training.train import validation

TRAINED_ON, WATCHED_WITH = range(2)
"""Kinds of generated sets."""
WATCHED_AT_ONCE = 8
"""Batch size of validation."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A phase of the training, with its own learning-rate schedule; it continues from the weights of the one before."""

    layer: LayerConfig
    """Solver, stop and gradient in this phase."""
    correction: tuple[int, ...] = ()
    """Evaluations whose states are supervised besides the last."""
    pairs: int
    """Number of generated pairs in an epoch."""
    steps: int
    batch_size: int
    optim: OptimConfig
    augment: AugmentConfig
    gamma: float = 0.8
    """Weight of each prediction relative to the next one in the sequence loss."""
    stabilise: Stabilise | None = None
    """As in `params.Train`."""
    coarser: Coarser | None = None
    """As in `params.Train`."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of autocast."""
    ema: float | None = None
    """Decay of the moving average of the weights, which is the result of the phase; None is without averaging."""


@dataclass(frozen=True, kw_only=True)
class Shipped:
    """The recipe."""

    network: str
    """Name of a network in `deq_flow.NAMES`."""
    data: GeneratedConfig
    phases: tuple[Phase, ...]
    leak: float = 0.0
    """As in `params.EquilibriumModel`."""
    photograph_side: int = 1440
    """Longer side to which listed photographs are downscaled, pixels."""
    processes: int = 1
    """Number of processes that share the pairs of an update."""
    scales: Scales | None = None
    """Scales that are stored with the network; see `params.EquilibriumModel`."""
    validation_pairs: int
    """Number of validation pairs, generated from other photographs."""
    every: Every = field(default_factory=Every)
    threads: int = 1
    """Number of CPU threads; results are bitwise equal only for an equal number."""

    def __post_init__(self) -> None:
        if not self.phases:
            raise ValueError("phases: expected at least one")
        if odd := [phase.batch_size for phase in self.phases if phase.batch_size % self.processes]:
            raise ValueError(
                f"phases: expected batch sizes that are multiples of processes {self.processes}, got {odd}"
            )
        if not self.network.startswith("deq-flow-"):
            raise ValueError(f"network: expected a name such as deq-flow-compact, got {self.network!r}")

    def model(self, phase: Phase) -> EquilibriumModel:
        """The configuration of the network in a phase."""
        return EquilibriumModel(
            name=self.network,
            layer=phase.layer,
            correction=phase.correction,
            leak=self.leak,
            scales=self.scales,
        )


def train_shipped(
    config: Shipped, *, seed: int, out: Path, scratch: Path, log: Log, photographs: tuple[np.ndarray, ...] = ()
) -> dict[str, float]:
    """Trains the network and writes model.safetensors, config.json, history.csv and metrics.json to `out`.

    Args:
        config: pairs, and the phases of the training.
        seed: seed of the weights, and of the order and augmentation of the pairs.
        out: folder, which is created complete at the end.
        scratch: folder of the checkpoints from which an interrupted training resumes, one for each phase.
        log: receives the logged steps of a phase after its end, numbered across all phases.
        photographs: uint8 RGB (h, w, 3) each, for the pairs, in addition to those of scikit-image.

    Returns:
        The latest finite value of each quantity in the history.
    """
    torch.set_num_threads(config.threads)
    most = max(phase.pairs for phase in config.phases)
    pairs = Generated(config.data, (*load_all(TRAINING), *photographs), kind=TRAINED_ON, count=most)
    others = Generated(config.data, load_all(VALIDATION), kind=WATCHED_WITH, count=config.validation_pairs)
    measure = validation(others, WATCHED_AT_ONCE)
    seed_everything(seed)
    network = equilibrium_network(config.model(config.phases[0]))
    history: list[Row] = []
    for number, phase in enumerate(config.phases):
        network.equilibrium = equilibrium_network(config.model(phase)).equilibrium
        done = sum(earlier.steps for earlier in config.phases[:number])
        rows = fit(
            network,
            numbered(
                batches(
                    Subset(pairs, range(phase.pairs)),
                    batch_size=phase.batch_size // config.processes,
                    augment=phase.augment,
                    seed=derive(seed, number),
                )
            ),
            Objective(
                steps=phase.steps * config.processes,
                gamma=phase.gamma,
                stabilise=phase.stabilise,
                coarser=phase.coarser,
            ),
            Updates(steps=phase.steps, optim=phase.optim, every=config.every, precision=phase.precision, ema=phase.ema),
            seed=derive(seed, number),
            scratch=scratch / f"phase-{number + 1}",
            evaluate=measure,
        )
        for row in rows:
            log({name: value for name, value in row.items() if name != "step"}, done + int(row["step"]))
            history.append({**row, "phase": number + 1, "step": done + row["step"]})
    return keep(out, network, config.model(config.phases[-1]), history)


def equilibrium_network(model: EquilibriumModel) -> DEQFlow:
    """A freshly initialised DEQ-Flow network."""
    network = build_network(model)
    assert isinstance(network, DEQFlow)
    return network
