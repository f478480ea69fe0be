"""A small training that uses everything a checkpoint must keep; run as a program, it can be killed at any step.

    python -m tests.core.experiment.lesson SCRATCH OUT

It says "batch" on stdout for each batch and waits for a line on stdin before it goes on; without LESSON_GATE in the
environment it runs through. OUT gets the weights and the history.
"""

import os
import random
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from deq_core.experiment.checkpoints import checkpoint
from deq_core.experiment.config.optim import Every, OptimConfig
from deq_core.experiment.config.recipe import Updates
from deq_core.experiment.seeding import item_rng, seed_everything
from deq_core.experiment.tables import write_rows
from deq_core.experiment.tracking.log import Log, ignore
from deq_core.experiment.training.fit import Losses, fit

OPTIM = OptimConfig(lr=2e-2, weight_decay=1e-2, schedule="onecycle", clip=1.0)
EVERY = Every(log=3, checkpoint=5, evaluate=8)
STEPS = 24


def network(dtype: torch.dtype = torch.float64) -> nn.Module:
    """Weight norm, dropout, running statistics and a spare parameter that no gradient reaches."""
    seed_everything(int(os.environ.get("RANK", "0")))  # the first process's weights must win
    model = nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Linear(3, 8)),
        nn.BatchNorm1d(8),
        nn.Tanh(),
        nn.Dropout(0.2),
        nn.Linear(8, 1),
    )
    model.register_parameter("spare", nn.Parameter(torch.zeros(2)))
    return model.to(dtype)


def batches(start: int) -> Iterator[Tensor]:
    """Batch number n, (6, 3), drawn from a generator of its own."""
    number = start
    while True:
        yield torch.from_numpy(item_rng(1, 0, number).standard_normal((6, 3)))
        number += 1


def objective(model: nn.Module, batch: Tensor) -> Losses:
    """A regression with noise from every library's global generator."""
    if "LESSON_GATE" in os.environ:
        print("batch", flush=True)
        sys.stdin.readline()
    batch = batch.to(next(model.parameters()).dtype)
    noise = random.random() + float(np.random.random()) + torch.randn(6, 1).to(batch)  # noqa: NPY002 - the global one
    error = model(batch) - batch.prod(dim=1, keepdim=True) - 0.01 * noise
    return Losses(error.square().mean(), {"largest": error.detach().abs().max()})


def evaluate(model: nn.Module) -> dict[str, float]:
    """A measurement that draws random numbers itself."""
    return {"val": float(model(torch.randn(4, 3, dtype=torch.float64)).mean())}


def lesson(scratch: Path, *, accumulate: int = 2, log: Log = ignore, **options: Any) -> tuple[nn.Module, list[dict]]:
    """The trained network and its history."""
    told = {"every": EVERY, "ema": 0.8, "steps": STEPS, "accumulate": accumulate}
    told |= {name: options.pop(name) for name in list(options) if name in [each.name for each in fields(Updates)]}
    model = network()
    options = {"evaluate": evaluate, **options}
    history = fit(model, batches, objective, Updates(optim=OPTIM, **told), seed=7, scratch=scratch, log=log, **options)
    return model, history


def main(scratch: Path, out: Path, *, accumulate: int = 2) -> None:
    """Trains, and writes what the first process has."""
    trained, rows = lesson(scratch, accumulate=accumulate)
    if os.environ.get("RANK", "0") == "0":
        checkpoint.save(out / "model.safetensors", trained, OPTIM)
        write_rows(out / "history.csv", rows)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
