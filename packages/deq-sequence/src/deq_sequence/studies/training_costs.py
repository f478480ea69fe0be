"""Cost of a training step of a DEQ-Transformer with each adjoint."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from deq_core.experiment.study.training_costs import Costs, costs_stage
from deq_sequence.models.build import NAMES, build


@dataclass(frozen=True, kw_only=True)
class SequenceCosts(Costs):
    """Settings of the costs, measured on random tokens with a full memory."""

    name: str
    """Architecture, including the vocabulary: a name that `deq_sequence.build` accepts, such as mini."""
    length: int
    """Number of tokens in a segment, and number of positions remembered."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name not in NAMES:
            raise ValueError(f"name: expected one of {', '.join(NAMES)}, got {self.name!r}")
        if self.length < 1:
            raise ValueError(f"length: expected at least 1 token, got {self.length}")


def made(config: SequenceCosts, device: torch.device) -> tuple[nn.Module, Callable[[], Tensor]]:
    """An untrained network, and a function that computes its loss on a batch."""
    network = build(config.name, memory=config.length).to(device)
    shape = config.batch_size, config.length
    before, tokens, targets = (torch.randint(network.size.vocabulary, shape, device=device) for _ in range(3))
    with torch.no_grad():
        memory = network(before, targets=tokens, steps=1).memory

    def loss() -> Tensor:
        found = network(tokens, memory, targets=targets).loss
        assert found is not None
        return found

    return network, loss


COSTS = costs_stage("sequence", SequenceCosts, made)
