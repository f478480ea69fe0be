"""The sample that all flow data sets return, and the files it is read from."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from deq_core.experiment.data import batches
from deq_core.experiment.errors import FileFormatError


@dataclass(frozen=True)
class FlowSample:
    """A pair of frames with the flow of the first one.

    If the flow is not published (test splits), `valid` is False everywhere and `flow` is zero.

    Raises:
        ValueError: a tensor has another type or shape than stated here, or valid flow is not finite.
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
    """Name of the pair, unique within its data set."""
    occluded: Tensor | None = None
    """bool (h, w): pixels of image 1 that are not visible in image 2; None if the data set does not provide this."""
    invalid: Tensor | None = None
    """bool (h, w): pixels with flow that the data set's own scoring excludes; None if it has no such pixels."""

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
    """Raises if no flow of the pair `name` is known, because then its error is not defined.

    Raises:
        FileFormatError: the message names the pair.
    """
    if not sample.valid.any():
        raise FileFormatError(
            f"{name}: expected flow that is known at one pixel at least, got none, so that there is no error to "
            "measure; write its flow again, or take the pair out of the set"
        )


SampleSet = batches.SampleSet[FlowSample]
"""Pairs by index."""


@dataclass(frozen=True)
class PairFiles:
    """The files of a pair, whose frames have one height and width."""

    name: str
    """Name of the sample."""
    first: Path
    second: Path
    beside: tuple[Path, ...] = ()
    """Flow of the first frame, then masks if the set has any; empty in test splits."""
    grid: int = 1
    """Number of points of the flow for each pixel of a frame, along either side."""
