"""Schedules for the number of steps of the solves in training."""

from dataclasses import dataclass, replace

import torch

from .._adjoints.base import Adjoint
from .._adjoints.unrolled import Unrolled
from .._solve.stop import Stop


@dataclass(frozen=True)
class RandomSteps:
    """A random `max_steps` in each training step, so that the network works with any number of them.

    Use it as `layer(f, z0, stop=schedule(step))`. The code released with MDEQ (Bai et al., NeurIPS 2020) varies the
    number like this in the steps that compute the Jacobian penalty. The number depends on seed and step alone, so a
    resumed training draws the same ones.

    Attributes:
        stop: stopping criterion; its `max_steps` is replaced.
        low, high: bounds of `max_steps`, both included, at least 1.
        seed: seed of the draws.
    """

    stop: Stop
    low: int
    high: int
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.low <= self.high:
            raise ValueError(f"low and high must be at least 1 and in this order, got {self.low!r} and {self.high!r}")

    def __call__(self, step: int) -> Stop:
        """The stop for training step `step`, counted from 0."""
        # Spread seeds apart, since generators with neighbouring seeds begin with similar numbers.
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + step) * 2_654_435_761 % 2**63)
        return replace(self.stop, max_steps=_draw(self.low, self.high, generator))


@dataclass(frozen=True)
class RandomSegments:
    """Random numbers of steps for several solves in a row, drawn anew in each training step.

    Each solve starts from the detached end of the one before, and each is supervised. So a network is trained at states
    that are many steps from its start, with the memory of short solves. The ranges grow over the first part of the
    training, as an untrained network gains nothing from many steps. Random depth makes solutions less dependent on the
    path (Anil et al., NeurIPS 2022).

    Attributes:
        low: minimum number of steps of each solve.
        high: maximum number of steps of each solve once the ranges have grown.
        high_at_start: the same at the beginning of training.
        ramp: share of the training over which `high_at_start` grows to `high`, in [0, 1].
        long: minimum and maximum number of steps of a long last solve.
        long_share: probability that the last solve is long, once the ranges have grown.
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
        """Number of steps of each solve, when the share `progress` of the training is done, in [0, 1]."""
        grown = 1.0 if progress >= self.ramp else progress / self.ramp
        steps = [
            _draw(self.low, start + round(grown * (end - start)), generator)
            for start, end in zip(self.high_at_start, self.high, strict=True)
        ]
        # Always drawn, so that later draws of the generator do not depend on these.
        chance, long = float(torch.rand((), generator=generator)), _draw(*self.long, generator)
        if grown == 1.0 and chance < self.long_share:
            steps[-1] = long
        return tuple(steps)


@dataclass(frozen=True)
class UnrolledWarmUp:
    """Unrolls a few steps of the solve in the first training steps; after that the layer's own options hold.

    The implicit gradient of an untrained network far from any equilibrium is of little use. Training it as a short
    weight-tied network first helps (Bai et al., NeurIPS 2019).

    Attributes:
        steps: number of training steps of the warm-up.
        depth: number of unrolled steps of each solve.
    """

    steps: int
    depth: int

    def __post_init__(self) -> None:
        if self.steps < 0 or self.depth < 1:
            raise ValueError(f"steps must be at least 0 and depth at least 1, got {self.steps!r} and {self.depth!r}")

    def __call__(self, step: int) -> tuple[Stop | None, Adjoint | None]:
        """`stop` and `adjoint` for training step `step`, counted from 0; None stands for the layer's own."""
        return (Stop(self.depth, tol=None), Unrolled()) if step < self.steps else (None, None)


def _draw(low: int, high: int, generator: torch.Generator) -> int:
    """A whole number from `low` to `high`, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))
