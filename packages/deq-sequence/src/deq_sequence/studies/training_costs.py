"""What a training step of a DEQ-Transformer costs by each gradient."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from deq_core.experiment import distributed
from deq_core.experiment.seeding import seed_everything
from deq_core.experiment.study.stage import Job, Single, Stage
from deq_core.experiment.study.training_costs import Costs, summary, training_costs
from deq_sequence.models.build import NAMES, build


@dataclass(frozen=True, kw_only=True)
class SequenceCosts(Costs):
    """Of random tokens, with a memory that is full."""

    name: str
    """Sizes, vocabulary included: a name that `deq_sequence.build` knows, such as mini."""
    length: int
    """Tokens of a segment, and as many remembered."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name not in NAMES:
            raise ValueError(f"name: expected one of {', '.join(NAMES)}, got {self.name!r}")
        if self.length < 1:
            raise ValueError(f"length: expected at least 1 token, got {self.length}")


def measure(job: Job[Single, SequenceCosts]) -> Mapping[str, Any]:
    """Memory and time by gradient and evaluations; see `training_costs`, whose rows the table `steps` has."""
    config = job.settings
    seed_everything(0)
    device = distributed.device(config.device)
    network = build(config.name, memory=config.length).to(device)
    shape = config.batch_size, config.length
    before, tokens, targets = (torch.randint(network.size.vocabulary, shape, device=device) for _ in range(3))
    with torch.no_grad():
        memory = network(before, targets=tokens, steps=1).memory

    def loss() -> Tensor:
        found = network(tokens, memory, targets=targets).loss
        assert found is not None
        return found

    job.tables["steps"] = training_costs(network, loss, config)
    return summary(job.tables["steps"])


COSTS = Stage(
    name="sequence.training_costs",
    section="sequence",
    case=Single,
    settings=lambda section, case: section.load(SequenceCosts, "costs"),
    run=measure,
)
