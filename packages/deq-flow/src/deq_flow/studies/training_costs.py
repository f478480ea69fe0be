"""Cost of a training step of a flow network with each gradient."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from deq_core.experiment.study.training_costs import Costs, costs_stage
from deq_flow.models import build
from deq_flow.training.loss import sequence_loss


@dataclass(frozen=True, kw_only=True)
class FlowCosts(Costs):
    """Settings of the study of costs, on random pairs."""

    name: str
    """Name of a network in `deq_flow.NAMES`, such as deq-flow-mini."""
    crop: tuple[int, int]
    """Height and width of pairs, pixels."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.name.startswith("deq-flow"):
            raise ValueError(f"name: expected an equilibrium network, deq-flow-..., got {self.name}")


def made(config: FlowCosts, device: torch.device) -> tuple[nn.Module, Callable[[], Tensor]]:
    """An untrained network, and a function that computes its loss on a batch."""
    network = build(config.name, correction=()).to(device)
    image1, image2 = (255 * torch.rand(config.batch_size, 3, *config.crop, device=device) for _ in range(2))
    target = image1.new_zeros(config.batch_size, 2, *config.crop)
    valid = torch.ones_like(target[:, 0], dtype=torch.bool)

    def loss() -> Tensor:
        return sequence_loss(network(image1, image2).flows, target, valid)

    return network, loss


COSTS = costs_stage("flow", FlowCosts, made)
