"""Loading and encoding for studies of the solves of equilibrium networks.

Such a study needs one map, so a network with scales runs at one: the original size, with flow relative to zero.
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from deq_core.experiment.checkpoints.checkpoint import CheckpointError
from deq_flow.data.batches import FlowBatch
from deq_flow.data.samples import FlowSample
from deq_flow.evaluation.sets import SETS
from deq_flow.models import DEQFlow
from deq_flow.models.network import Pair
from deq_flow.models.padding import Padding
from deq_flow.networks import load


def equilibrium_network(folder: Path) -> DEQFlow:
    """The network in `folder`. Raises CheckpointError if it is not an equilibrium network."""
    network = load(folder)
    if not isinstance(network, DEQFlow):
        raise CheckpointError(f"{folder}: expected an equilibrium network, got {type(network).__name__}")
    return network


@torch.no_grad()
def encode(model: DEQFlow, samples: Sequence[FlowSample], *, of: str) -> tuple[Pair, Padding]:
    """Encoded pairs of one shape, padded as frames of the set `of` are, and that padding."""
    batch = FlowBatch.collate(samples).to(model.fnet.conv1.weight.device)
    height, width = batch.valid.shape[1:]
    padding = Padding(height, width, model.size.scale, SETS[of].padding)
    return model.encode(padding.pad(batch.image1), padding.pad(batch.image2)), padding
