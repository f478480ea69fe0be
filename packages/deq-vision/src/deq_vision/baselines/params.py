"""Baselines in params.yaml; `classifiers` has the predictors."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from deq_core.experiment.config import Kind


@dataclass(frozen=True, kw_only=True)
class Linear:
    """Logistic regression on the pixels of an image."""

    strength: float = 1e-3
    """Inverse of the weight of the L2 penalty."""
    steps: int = 50
    """Maximum number of L-BFGS iterations."""
    kind: Literal["linear"] = field(default="linear", repr=False)


@dataclass(frozen=True, kw_only=True)
class Neighbours:
    """Nearest neighbours in pixel space."""

    neighbours: int = 5
    kind: Literal["neighbours"] = field(default="neighbours", repr=False)


@dataclass(frozen=True, kw_only=True)
class Majority:
    """The most frequent class of pixels, predicted everywhere."""

    kind: Literal["majority"] = field(default="majority", repr=False)


@dataclass(frozen=True, kw_only=True)
class Position:
    """The most frequent class at each pixel position."""

    kind: Literal["position"] = field(default="position", repr=False)


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """Logistic regression of single pixels on their colour and position."""

    pixels: int = 40_000
    """Number of pixels, drawn at random, to fit to."""
    steps: int = 200
    """Maximum number of L-BFGS iterations."""
    seed: int = 0
    """Seed of that draw."""
    kind: Literal["pixels"] = field(default="pixels", repr=False)


@dataclass(frozen=True, kw_only=True)
class Boxes:
    """The mean box of each class, or of clusters of its boxes, predicted in every image."""

    per_class: int = 1
    """Number of clusters per class."""
    seed: int = 0
    """Seed of the initial cluster centres."""
    kind: Literal["boxes"] = field(default="boxes", repr=False)


OfImages = Linear | Neighbours
OfPixels = Majority | Position | Pixels
Baseline = Annotated[OfImages | OfPixels | Boxes, Kind]
