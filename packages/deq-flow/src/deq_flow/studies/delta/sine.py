"""The demonstration of the DeltaDEQ release: a recurrent cell fitted to a sine, and when its units settle.

hidden ← tanh(V x + a + W hidden + b) from zeros, with constant x; y = C hidden + c, with a penalty on the excess of
W's largest singular value over 1. The release trains through all steps, so that y is right after exactly that many;
trained as an equilibrium instead, it is right from some step on.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init

import deq_core as deq
from deq_core.experiment.config import Name, Seed
from deq_core.experiment.config.delta import Rule
from deq_core.experiment.config.layer import LayerConfig
from deq_core.experiment.config.optim import Every, OptimConfig
from deq_core.experiment.config.recipe import Updates
from deq_core.experiment.seeding import seed_everything
from deq_core.experiment.study.delta import by_threshold
from deq_core.experiment.study.stage import Job, Stage
from deq_core.experiment.tables import Row, numbers
from deq_core.experiment.tracking.run import Log
from deq_core.experiment.training.fit import Losses, fit
from deq_flow.studies.delta.rules import rule_rows
from deq_flow.studies.delta.trajectories import (
    component_rows,
    components_needed,
    explained_variance,
    lasting,
    unit_tables,
)

Step = Callable[[Tensor, Tensor], Tensor]
RANGE = 2 * math.pi
SHOWN = (1, 5, 10, 15)
"""Steps whose predictions are kept for the figure, as far as there are."""


@dataclass(frozen=True, kw_only=True)
class Sine:
    """The release's demonstration: a recurrent cell fitted to y = sin(x)."""

    steps: int
    """Number of updates, each on all points."""
    optim: OptimConfig
    layer: LayerConfig | None = None
    """Solve and gradient of training; None trains through all `evaluations`, as the release does."""
    evaluations: int = 15
    """Number of steps of the cell, from zeros, after training."""
    width: int = 20
    """Number of units of the cell."""
    points: int = 200
    """Number of equally spaced x from -2π to 2π."""
    penalty: float = 0.5
    """Weight of the excess over 1 of the recurrent weight's largest singular value."""
    probes: int = 1000
    """Number of random x at which convergence is measured."""
    tolerance: float = 0.01
    """Largest change of a settled unit in a step."""
    rules: dict[str, Rule]
    """Settings of the delta rule after training, by name."""
    every: Every = field(default_factory=Every)
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("steps", "width", "points", "probes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.evaluations < 2:
            raise ValueError(f"evaluations: expected at least 2, got {self.evaluations}")


@dataclass(frozen=True)
class Fit:
    """A fit, and its seed."""

    fit: Name
    """A key of the section's `sine`."""
    seed: Seed


class SineCell(nn.Module):
    """One step of the recurrence; its two layers are those of `nn.RNNCell`, initialised in the same order."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.injected = skip_init(nn.Linear, 1, width)
        self.recurrent = skip_init(nn.Linear, width, width)
        bound = 1 / math.sqrt(width)
        for layer in ("weight", "bias"):
            for linear in (self.injected, self.recurrent):
                nn.init.uniform_(linear.get_parameter(layer), -bound, bound)

    def forward(self, hidden: Tensor, x: Tensor) -> Tensor:
        """The next hidden state (B, width) for x (B, 1)."""
        return torch.tanh(self.injected(x) + self.recurrent(hidden))


class SineModel(nn.Module):
    """The cell, and a linear layer from its state to y."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.cell = SineCell(width)
        self.output = nn.Linear(width, 1)

    def states(self, x: Tensor, steps: int, cell: Step | None = None) -> Tensor:
        """The states after each step for x (B, 1), (steps, B, width), with `cell` in place of the model's own."""
        step = self.cell if cell is None else cell
        hidden = x.new_zeros(len(x), self.output.in_features)
        states = []
        with deq.solve_scope():
            for _ in range(steps):
                hidden = step(hidden, x)
                states.append(hidden)
        return torch.stack(states)


def points(count: int) -> tuple[Tensor, Tensor]:
    """x (count, 1), equally spaced from -2π to 2π, and sin x."""
    x = torch.linspace(-RANGE, RANGE, count)[:, None]
    return x, torch.sin(x)


def train(config: Sine, *, seed: int, scratch: Path, log: Log) -> tuple[SineModel, list[dict[str, float]]]:
    """A trained model and its history: loss, mse and norm (W's largest singular value) before each update."""
    seed_everything(seed)
    model = SineModel(config.width)
    data = points(config.points)
    layer = None if config.layer is None else config.layer.build()

    def final(model: SineModel, x: Tensor) -> Tensor:
        if layer is None:
            return model.states(x, config.evaluations)[-1]
        return layer(lambda hidden: model.cell(hidden, x), x.new_zeros(len(x), config.width)).value

    def objective(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Losses:
        assert isinstance(model, SineModel)
        x, y = batch
        mse = F.mse_loss(model.output(final(model, x)), y)
        norm = torch.linalg.matrix_norm(model.cell.recurrent.weight, 2)
        return Losses(mse + config.penalty * torch.relu(norm - 1), {"mse": mse, "norm": norm})

    history = fit(
        model,
        lambda start: repeat(data),
        objective,
        Updates(steps=config.steps, optim=config.optim, every=config.every),
        seed=seed,
        scratch=scratch,
        log=log,
    )
    return model.eval(), history


@torch.no_grad()
def study(model: SineModel, config: Sine, probes: Tensor) -> dict[str, list[Row]]:
    """Tables of a trained model.

    Args:
        probes: x (count, 1) at which convergence is measured.

    Returns:
        steps: error of y over the points after each step, and mean change of the units in the next step, over the
        probes. histogram and distribution: steps to settle of the units, by both criteria. components: principal
        components of the states at all points and steps. sweep: error, and work of the recurrent layer (the injection
        is computed once, and not counted), by threshold; for threshold 0 after every step. Points are alternately for
        test and validation.
    """
    x, y = points(config.points)
    states, watched = model.states(x, config.evaluations), model.states(probes, config.evaluations)
    errors = (model.output(states) - y).square().mean(dim=(1, 2)).tolist()
    moved = [*(watched[1:] - watched[:-1]).abs().mean(dim=(1, 2)).tolist(), None]
    steps: list[Row] = [
        {"step": step, "mse": error, "moved": change}
        for step, (error, change) in enumerate(zip(errors, moved, strict=True), start=1)
    ]

    def solved(cell: Step) -> Tensor:
        return model.states(x, config.evaluations, cell)

    def qualities(state: Tensor) -> dict[str, float]:
        found = (model.output(state) - y).square()
        return {"validation": float(found[1::2].mean()), "test": float(found[::2].mean())}

    return {
        "steps": steps,
        **unit_tables(watched, config.tolerance),
        "components": component_rows(explained_variance(states.flatten(0, 1))),
        "sweep": rule_rows(model.cell, config.rules, solved, qualities, "mse", skip=("injected",)),
    }


def random_probes(config: Sine, seed: int) -> Tensor:
    """x (probes, 1), uniform from -2π to 2π."""
    generator = torch.Generator().manual_seed(seed)
    return RANGE * (2 * torch.rand(config.probes, 1, generator=generator) - 1)


def measure(job: Job[Fit, Sine]) -> Mapping[str, float]:
    """Trains and studies one model.

    Returns:
        mse of the dense model, steps by which 5, 50 and 95 % of the units have settled for good, number of components
        that explain 99 % of the states' variance, and mse and savings for each rule and threshold.
    """
    config, seed = job.settings, job.case.seed
    torch.set_num_threads(config.threads)
    model, history = train(config, seed=seed, scratch=job.scratch, log=job.log)
    job.trained = model, config
    job.tables["history"].extend({**row} for row in history)
    job.tables |= study(model, config, random_probes(config, seed))
    x, _ = points(config.points)
    with torch.no_grad():
        states = model.states(x, config.evaluations)
        outputs = model.output(states)[:, :, 0]
    shown = [step for step in SHOWN if step <= config.evaluations]
    job.arrays["states"] = {
        "x": x[:, 0],
        "shown": torch.tensor(shown),
        "predictions": torch.stack([outputs[step - 1] for step in shown]),
        "trajectory": states[:, config.points // 4],  # (steps, width), near x = -π
    }
    return {
        "mse": numbers(job.tables["steps"], "mse")[-1],
        **lasting(job.tables["distribution"]),
        "components": float(components_needed(explained_variance(states.flatten(0, 1)))),
        **by_threshold(job.tables["sweep"], "mse"),
    }


SINE = Stage(
    name="delta.sine",
    section="delta",
    case=Fit,
    settings=lambda section, case: section.load(Sine, f"sine.{case.fit}"),
    run=measure,
    trains=True,
)
