"""The elements of a state that still change at each evaluation."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

COUNTS = ("elements", "elements_changed", "pixels", "pixels_changed", "tiles", "tiles_changed")
"""The columns of counts."""
TILE = 8  # cells; side of the blocks that a GPU kernel could skip


@dataclass
class Changes:
    """Changes of a state (B, C, h, w) by more than a threshold from one evaluation to the next.

    Without a previous evaluation everything counts as changed.
    """

    threshold: float
    previous: Tensor | None = None
    """State of the evaluation before; at first, that of the previous solve if memories are kept."""
    maps: list[Tensor] = field(default_factory=list)
    """Share of channels that changed, (B, h, w), for each evaluation."""
    counts: list[Tensor] = field(default_factory=list)
    """Numbers of elements, pixels and tiles, and of those that changed, (COUNTS,) float64, for each evaluation."""

    def see(self, state: Tensor) -> None:
        """Adds the state of the next evaluation."""
        before = self.previous
        if before is None or before.shape != state.shape:
            changed = torch.ones_like(state, dtype=torch.bool)
        else:
            changed = ~((state - before).abs() <= self.threshold)  # NaN counts as changed
        self.previous = state
        pixels = changed.any(dim=1)
        tiles = F.max_pool2d(pixels[:, None].float(), TILE, ceil_mode=True)
        self.maps.append(changed.float().mean(dim=1))
        numbers = [changed.numel(), changed.sum(), pixels.numel(), pixels.sum(), tiles.numel(), tiles.sum()]
        self.counts.append(torch.tensor([float(number) for number in numbers], dtype=torch.float64))


def changed_shares(counts: Tensor) -> dict[str, float]:
    """Shares of elements, pixels and 8x8 tiles of the state that changed, from counts (COUNTS,)."""
    sums: Mapping[str, float] = dict(zip(COUNTS, counts.tolist(), strict=True))
    return {f"state_{name}": sums[f"{name}_changed"] / sums[name] for name in ("elements", "pixels", "tiles")}
