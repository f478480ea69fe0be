"""A training that hands a tensor of each lane from batch to batch; under torchrun a process has lanes of its own.

    torchrun ... -m tests.core.experiment.lanes FOLDER

It breaks off behind its second checkpoint, resumes, and prints the history. Before, the processes do the lesson, which
leaves what it has learnt in FOLDER/out.
"""

import json
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import torch
from tests.core.experiment import lesson
from torch import Tensor, nn

from deq_core.experiment import distributed
from deq_core.experiment.config.optim import Every, OptimConfig
from deq_core.experiment.config.recipe import Updates
from deq_core.experiment.seeding import item_rng
from deq_core.experiment.training.fit import Losses, fit

LANES = 2


def trained(scratch: Path, *, accumulate: int, until: int | None = None) -> list[dict[str, float]]:
    """The history of a training whose loss depends on all earlier batches of the lane; it stops at batch `until`."""
    carried: dict[str, Tensor] = {}

    def batches(start: int) -> Iterator[tuple[int, Tensor]]:
        return ((number, torch.from_numpy(item_rng(0, 0, number).standard_normal((4, 3)))) for number in count(start))

    def objective(model: nn.Module, batch: tuple[int, Tensor]) -> Losses:
        number, values = batch
        if until is not None and number >= until:
            raise KeyboardInterrupt
        lane = f"lane {number % LANES}"
        carried[lane] = values.mean(0) + 0.9 * carried.get(lane, torch.zeros(3, dtype=torch.float64))
        return Losses((model(values) - carried[lane].sum()).square().mean())

    torch.manual_seed(0)
    model, optim = nn.Linear(3, 1, dtype=torch.float64), OptimConfig(name="sgd", lr=0.05)
    recipe = Updates(optim=optim, steps=8, accumulate=accumulate, every=Every(checkpoint=2))
    return fit(model, batches, objective, recipe, seed=0, scratch=scratch, carried=carried)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    with distributed.workers(torch.device("cpu")) as workers:
        lesson.main(folder / "lesson", folder / "out", accumulate=1)
        try:
            trained(folder / "lanes", accumulate=1, until=5 * LANES)
        except KeyboardInterrupt:
            rows = trained(folder / "lanes", accumulate=1)
            if workers.rank == 0:
                print(json.dumps(rows))
