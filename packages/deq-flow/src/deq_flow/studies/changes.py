"""Which elements of a state still change, evaluation by evaluation."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

COUNTS = ("elements", "elements_changed", "pixels", "pixels_changed", "tiles", "tiles_changed")
"""The columns of counts."""
TILE = 8  # cells; the side of the blocks that a GPU kernel would skip


@dataclass
class Changes:
    """Where a state (B, C, h, w) changes by more than a threshold from one evaluation to the next.

    An evaluation without a previous one counts as changed everywhere.
    """

    threshold: float
    previous: Tensor | None = None
    """The state of the last evaluation seen, or of the last solve where its memories are kept."""
    maps: list[Tensor] = field(default_factory=list)
    """(B, h, w) an evaluation: the share of channels that changed."""
    counts: list[Tensor] = field(default_factory=list)
    """(COUNTS,) float64 an evaluation: elements, pixels and tiles, and how many of them changed."""

    def see(self, state: Tensor) -> None:
        """Takes the next evaluation's state."""
        before = self.previous
        if before is None or before.shape != state.shape:
            changed = torch.ones_like(state, dtype=torch.bool)
        else:
            changed = ~((state - before).abs() <= self.threshold)  # what is not a number has not stayed
        self.previous = state
        pixels = changed.any(dim=1)
        tiles = F.max_pool2d(pixels[:, None].float(), TILE, ceil_mode=True)
        self.maps.append(changed.float().mean(dim=1))
        numbers = [changed.numel(), changed.sum(), pixels.numel(), pixels.sum(), tiles.numel(), tiles.sum()]
        self.counts.append(torch.tensor([float(number) for number in numbers], dtype=torch.float64))


def changed_shares(counts: Tensor) -> dict[str, float]:
    """Shares of elements, pixels and 8x8 tiles of the state that changed, from one row (COUNTS,)."""
    sums: Mapping[str, float] = dict(zip(COUNTS, counts.tolist(), strict=True))
    return {f"state_{name}": sums[f"{name}_changed"] / sums[name] for name in ("elements", "pixels", "tiles")}
