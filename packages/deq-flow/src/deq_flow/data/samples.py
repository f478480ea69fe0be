"""The sample every flow data set returns, and the files it is read from."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from deq_core.experiment.data import batches
from deq_core.experiment.errors import FileFormatError


@dataclass(frozen=True)
class FlowSample:
    """A pair of frames and the motion of the first one's pixels.

    A data set whose motion is not published (a test split) has `valid` False everywhere and `flow` zero.

    Raises:
        ValueError: a tensor has another type or shape than stated here, or a valid flow is not finite.
    """

    image1: Tensor
    """uint8 (3, h, w), RGB."""
    image2: Tensor
    """uint8 (3, h, w), RGB."""
    flow: Tensor
    """float32 (2, h, w), pixels, u right and v down: pixel (x, y) of image 1 is at (x + u, y + v) in image 2.
    Zero where it is not known."""
    valid: Tensor
    """bool (h, w): where the flow is known."""
    name: str
    """Where the pair comes from, unique within its data set."""
    occluded: Tensor | None = None
    """bool (h, w): pixels of image 1 that image 2 does not show; None where the data set does not say."""
    invalid: Tensor | None = None
    """bool (h, w): pixels whose flow is given, but which the data set's own scoring leaves out; None where it has no
    such pixels."""

    def __post_init__(self) -> None:
        h, w = self.image1.shape[-2:]
        checks: list[tuple[str, Tensor | None, torch.dtype, tuple[int, ...]]] = [
            ("image1", self.image1, torch.uint8, (3, h, w)),
            ("image2", self.image2, torch.uint8, (3, h, w)),
            ("flow", self.flow, torch.float32, (2, h, w)),
            ("valid", self.valid, torch.bool, (h, w)),
            ("occluded", self.occluded, torch.bool, (h, w)),
            ("invalid", self.invalid, torch.bool, (h, w)),
        ]
        for field, tensor, dtype, shape in checks:
            if tensor is not None and (tensor.dtype != dtype or tuple(tensor.shape) != shape):
                raise ValueError(
                    f"{self.name}: {field} must be {dtype} of shape {shape} (the size of image1), "
                    f"got {tensor.dtype} of shape {tuple(tensor.shape)}"
                )
        unknown = int((self.valid & ~self.flow.isfinite().all(dim=0)).sum())
        if unknown:
            raise ValueError(
                f"{self.name}: flow must be finite at valid pixels, got {unknown} that are not; mark them as not valid"
            )


def require_known(sample: FlowSample, name: str) -> None:
    """Raises where no pixel's flow of the pair called `name` is known, for then it has no error.

    Raises:
        FileFormatError: naming the pair.
    """
    if not sample.valid.any():
        raise FileFormatError(
            f"{name}: expected flow that is known at one pixel at least, got none, so that there is no error to "
            "measure; write its flow again, or take the pair out of the set"
        )


SampleSet = batches.SampleSet[FlowSample]
"""Pairs by their index."""


@dataclass(frozen=True)
class PairFiles:
    """The files of a pair, which are of one height and width."""

    name: str
    """Of its sample."""
    first: Path
    second: Path
    beside: tuple[Path, ...] = ()
    """Flow of the first frame, and masks, which not every set has; nothing in splits for tests."""
    grid: int = 1
    """Points of the flow for each pixel of a frame, along either side."""
