"""What a training step of a flow network costs by each gradient."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from deq_core.experiment import distributed
from deq_core.experiment.seeding import seed_everything
from deq_core.experiment.study.stage import Job, Single, Stage
from deq_core.experiment.study.training_costs import Costs, summary, training_costs
from deq_flow.loss import sequence_loss
from deq_flow.models import build


@dataclass(frozen=True, kw_only=True)
class FlowCosts(Costs):
    """Of random pairs."""

    name: str
    """Sizes: a name that `deq_flow.build` knows, such as deq-flow-mini."""
    crop: tuple[int, int]
    """Height and width of pairs, pixels."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.name.startswith("deq-flow"):
            raise ValueError(f"name: expected an equilibrium network, deq-flow-..., got {self.name}")


def measure(job: Job[Single, FlowCosts]) -> Mapping[str, Any]:
    """Memory and time by gradient and evaluations; see `training_costs`, whose rows the table `steps` has."""
    config = job.settings
    seed_everything(0)
    device = distributed.device(config.device)
    network = build(config.name, correction=()).to(device)
    image1, image2 = (255 * torch.rand(config.batch_size, 3, *config.crop, device=device) for _ in range(2))
    target = image1.new_zeros(config.batch_size, 2, *config.crop)
    valid = torch.ones_like(target[:, 0], dtype=torch.bool)

    def loss() -> Tensor:
        return sequence_loss(network(image1, image2).flows, target, valid)

    job.tables["steps"] = training_costs(network, loss, config)
    return summary(job.tables["steps"])


COSTS = Stage(
    name="flow.training_costs",
    section="flow",
    case=Single,
    settings=lambda section, case: section.load(FlowCosts, "costs"),
    run=measure,
)
