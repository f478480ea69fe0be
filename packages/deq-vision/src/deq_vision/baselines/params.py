"""What networks are compared with, as `params.yaml` writes it; `classifiers` has the predictors."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from deq_core.experiment.config import Kind


@dataclass(frozen=True, kw_only=True)
class Linear:
    """Logistic regression of the pixels of an image."""

    strength: float = 1e-3
    """Inverse of the weight of the penalty on squared coefficients."""
    steps: int = 50
    """Of L-BFGS."""
    kind: Literal["linear"] = field(default="linear", repr=False)


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """The most frequent class of the images whose pixels differ least."""

    neighbours: int = 5
    kind: Literal["neighbours"] = field(default="neighbours", repr=False)


@dataclass(frozen=True, kw_only=True)
class Majority:
    """The class with most pixels, everywhere."""

    kind: Literal["majority"] = field(default="majority", repr=False)


@dataclass(frozen=True, kw_only=True)
class Position:
    """The most frequent class of each place."""

    kind: Literal["position"] = field(default="position", repr=False)


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """Logistic regression of single pixels, of their colour and place."""

    pixels: int = 40_000
    """How many, drawn at random, it is fitted to."""
    steps: int = 200
    """Of L-BFGS."""
    seed: int = 0
    """Of that draw."""
    kind: Literal["pixels"] = field(default="pixels", repr=False)


@dataclass(frozen=True, kw_only=True)
class Boxes:
    """The mean box of each class, or of clusters of its boxes, in every image."""

    per_class: int = 1
    """Clusters."""
    seed: int = 0
    """Of their first centres."""
    kind: Literal["boxes"] = field(default="boxes", repr=False)


OfImages = Linear | Neighbours
OfPixels = Majority | Position | Pixels
Baseline = Annotated[OfImages | OfPixels | Boxes, Kind]
