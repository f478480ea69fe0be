"""A small language model for tests of what holds at every size."""

from typing import Any

import torch
from torch import Tensor

from deq_sequence import DEQTransformer, build

SMALL: dict[str, Any] = {
    "vocabulary": 40,
    "embedding": 16,
    "width": 16,
    "heads": 2,
    "head_width": 8,
    "inner": 24,
    "memory": 6,
}


def small(seed: int = 0, **overrides: Any) -> DEQTransformer:
    """A network whose cell contracts, float64, in evaluation mode.

    It does where what attention gathers, of the tokens mostly, outweighs the state it is added to before layer norm.
    """
    torch.manual_seed(seed)
    model = build("mini", **{**SMALL, "initial": 0.5, **overrides}).double().eval()
    gains = {"attention.qkv": 0.3, "attention.output": 3.0, "expand": 0.3, "contract": 0.3}
    with torch.no_grad():
        for name, gain in gains.items():
            model.cell.get_parameter(f"{name}.parametrizations.weight.original0").mul_(gain)
    return model


def some_tokens(batch: int = 2, length: int = 7, seed: int = 0, vocabulary: int = 40) -> Tensor:
    return torch.randint(vocabulary, (batch, length), generator=torch.Generator().manual_seed(seed))
