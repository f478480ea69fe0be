"""Cost of a training step of an MDEQ with each adjoint."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from deq_core.experiment.study.training_costs import Costs, costs_stage
from deq_vision.config import Architecture, Classification, Equilibrium
from deq_vision.loss import classification_loss
from deq_vision.models.mdeq import MDEQ


@dataclass(frozen=True, kw_only=True)
class VisionCosts(Costs):
    """Settings of the costs, measured on the classification of random images."""

    architecture: Architecture
    crop: tuple[int, int]
    """Height and width of images, pixels."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.architecture.head, Classification):
            raise ValueError(f"architecture.head: expected one to classify, got {self.architecture.head}")


def made(config: VisionCosts, device: torch.device) -> tuple[nn.Module, Callable[[], Tensor]]:
    """An untrained network, and a function that computes its loss on a batch."""
    head = config.architecture.head
    assert head is not None
    network = MDEQ(config.architecture, Equilibrium(**config.choices(next(iter(config.gradients)), 1))).to(device)
    images = torch.randn(config.batch_size, 3, *config.crop, device=device)
    labels = torch.randint(head.classes, (config.batch_size,), device=device)

    def loss() -> Tensor:
        return classification_loss(network(images).logits, labels)

    return network, loss


COSTS = costs_stage("vision", VisionCosts, made)
