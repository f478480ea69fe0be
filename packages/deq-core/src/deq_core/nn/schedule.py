"""`max_steps` as a function of the training step: `layer(f, z0, stop=..., adjoint=...)`."""

from dataclasses import dataclass, replace

import torch

from .._adjoints.base import Adjoint
from .._adjoints.unrolled import Unrolled
from .._solve.stop import Stop


@dataclass(frozen=True)
class RandomSteps:
    """A random `max_steps` every training step, so that the network is good after any number of them.

    MDEQ draws it so (Bai et al., NeurIPS 2020, its released code). The number is a function of seed and step alone: a
    resumed training draws the same.

    Attributes:
        stop: everything but `max_steps`.
        low, high: bounds of `max_steps`, both included.
        seed: of the draws.
    """

    stop: Stop
    low: int
    high: int
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.low <= self.high:
            raise ValueError(f"low and high must be at least 1 and in this order, got {self.low!r} and {self.high!r}")

    def __call__(self, step: int) -> Stop:
        """The stop of training step `step`, counted from 0."""
        # Spread apart: generators with neighbouring seeds begin alike.
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + step) * 2_654_435_761 % 2**63)
        draw = int(torch.randint(self.low, self.high + 1, (), generator=generator))
        return replace(self.stop, max_steps=draw)


@dataclass(frozen=True)
class UnrolledWarmUp:
    """A few unrolled steps of the solve for the first training steps, the layer's own choices afterwards.

    A network that starts far from any equilibrium has no useful implicit gradient; trained as a short weight-tied
    network first, it has (Bai et al., NeurIPS 2019).

    Attributes:
        steps: training steps of warm-up.
        depth: steps of the solve unrolled in them.
    """

    steps: int
    depth: int

    def __post_init__(self) -> None:
        if self.steps < 0 or self.depth < 1:
            raise ValueError(f"steps must be at least 0 and depth at least 1, got {self.steps!r} and {self.depth!r}")

    def __call__(self, step: int) -> tuple[Stop | None, Adjoint | None]:
        """`stop` and `adjoint` for training step `step`, counted from 0; None leaves the layer's own."""
        return (Stop(self.depth, tol=None), Unrolled()) if step < self.steps else (None, None)
