"""How many steps the solves of a training step have."""

from dataclasses import dataclass, replace

import torch

from .._adjoints.base import Adjoint
from .._adjoints.unrolled import Unrolled
from .._solve.stop import Stop


@dataclass(frozen=True)
class RandomSteps:
    """A random `max_steps` every training step, so that the network is good after any number of them.

    It goes with every solve: `layer(f, z0, stop=schedule(step))`. MDEQ draws it so (Bai et al., NeurIPS 2020, its
    released code). The number is a function of seed and step alone: a resumed training draws the same.

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
        return replace(self.stop, max_steps=_draw(self.low, self.high, generator))


@dataclass(frozen=True)
class RandomSegments:
    """How many steps each of several solves in a row has, drawn anew every training step.

    One solve begins where the one before ended, detached, and each is supervised: so a network is trained at states
    that are far along its own path, for the memory of short solves. The ranges grow over the first part of a training,
    as a network that is new has nothing to find in many steps. Random depth is what makes solutions depend less on
    the path (Anil et al., NeurIPS 2022).

    Attributes:
        low: least steps of every solve.
        high: for every solve, the most steps once the ranges are grown.
        high_at_start: the same at the beginning of training.
        ramp: share of the training over which `high_at_start` grows to `high`, in [0, 1].
        long: least and most steps of a long last solve, both included.
        long_share: how often the last solve is a long one, once the ranges are grown.
    """

    low: int = 2
    high: tuple[int, ...] = (6, 9)
    high_at_start: tuple[int, ...] = (2, 3)
    ramp: float = 0.3
    long: tuple[int, int] = (10, 23)
    long_share: float = 0.25

    def __post_init__(self) -> None:
        if not self.high or len(self.high) != len(self.high_at_start):
            raise ValueError(
                "high and high_at_start must be at least one number and equally many, one for each solve, "
                f"got {self.high!r} and {self.high_at_start!r}"
            )
        if not 1 <= self.low <= min(*self.high, *self.high_at_start):
            raise ValueError(f"low must be at least 1, and high and high_at_start at least low, got {self}")
        if not 1 <= self.long[0] <= self.long[1]:
            raise ValueError(f"long must be at least 1 and in order, got {self.long!r}")
        if not (0 <= self.ramp <= 1 and 0 <= self.long_share <= 1):
            raise ValueError(f"ramp and long_share must be at least 0 and at most 1, got {self}")

    def __call__(self, progress: float, generator: torch.Generator) -> tuple[int, ...]:
        """Steps of each solve, in order, when the share `progress` of the training is done, in [0, 1]."""
        grown = 1.0 if progress >= self.ramp else progress / self.ramp
        steps = [
            _draw(self.low, start + round(grown * (end - start)), generator)
            for start, end in zip(self.high_at_start, self.high, strict=True)
        ]
        # Drawn in any case, so that the numbers after these do not depend on what is drawn here.
        chance, long = float(torch.rand((), generator=generator)), _draw(*self.long, generator)
        if grown == 1.0 and chance < self.long_share:
            steps[-1] = long
        return tuple(steps)


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


def _draw(low: int, high: int, generator: torch.Generator) -> int:
    """A whole number from `low` to `high`, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))
