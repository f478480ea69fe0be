"""Moving averages of weights, which often evaluate better than the last weights."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """Moving average of the parameters of `model`: average <- decay average + (1 - decay) parameter."""

    def __init__(self, model: nn.Module, decay: float):
        if not 0 <= decay < 1:
            raise ValueError(f"ema: expected a decay of at least 0 and below 1, got {decay}")
        self.decay = decay
        self.values = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Moves the average towards the present parameters."""
        for name, parameter in model.named_parameters():
            self.values[name].lerp_(parameter, 1 - self.decay)

    @torch.no_grad()
    def load(self, values: Mapping[str, Tensor]) -> None:
        """Continues from `values`, the `values` of an earlier process."""
        for name, own in self.values.items():
            own.copy_(values[name])

    @torch.no_grad()
    def copy_to(self, model: nn.Module) -> None:
        """Replaces the parameters of `model` by their averages."""
        for name, parameter in model.named_parameters():
            parameter.copy_(self.values[name])

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """`model` has the averages as its parameters within the block, and its own again after it."""
        own = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
        self.copy_to(model)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in model.named_parameters():
                    parameter.copy_(own[name])
