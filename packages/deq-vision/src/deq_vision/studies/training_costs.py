"""What a training step of an MDEQ costs by each gradient."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from deq_core.experiment import distributed
from deq_core.experiment.seeding import seed_everything
from deq_core.experiment.study.stage import Job, Single, Stage
from deq_core.experiment.study.training_costs import Costs, summary, training_costs
from deq_vision.config import Architecture, Classification, Equilibrium
from deq_vision.loss import classification_loss
from deq_vision.models.mdeq import MDEQ


@dataclass(frozen=True, kw_only=True)
class VisionCosts(Costs):
    """Of random images that are classified."""

    architecture: Architecture
    crop: tuple[int, int]
    """Height and width of images, pixels."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.architecture.head, Classification):
            raise ValueError(f"architecture.head: expected one to classify, got {self.architecture.head}")


def measure(job: Job[Single, VisionCosts]) -> Mapping[str, Any]:
    """Memory and time by gradient and evaluations; see `training_costs`, whose rows the table `steps` has."""
    config = job.settings
    seed_everything(0)
    device = distributed.device(config.device)
    head = config.architecture.head
    assert head is not None
    network = MDEQ(config.architecture, Equilibrium(**config.choices(next(iter(config.gradients)), 1))).to(device)
    images = torch.randn(config.batch_size, 3, *config.crop, device=device)
    labels = torch.randint(head.classes, (config.batch_size,), device=device)

    def loss() -> Tensor:
        return classification_loss(network(images).logits, labels)

    job.tables["steps"] = training_costs(network, loss, config)
    return summary(job.tables["steps"])


COSTS = Stage(
    name="vision.training_costs",
    section="vision",
    case=Single,
    settings=lambda section, case: section.load(VisionCosts, "costs"),
    run=measure,
)
