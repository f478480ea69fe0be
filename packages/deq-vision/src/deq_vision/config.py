"""Architectures of the multiscale equilibrium models, and how they are solved."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import deq_core as deq
from deq_core.experiment.config import Kind
from deq_core.experiment.config.layer import LayerConfig, OnFailure

Numerics = Literal["core", "released"]
Colour = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Classification:
    """Classification head: bottlenecks on every branch, joined from fine to coarse, then pooled."""

    channels: tuple[int, ...]
    """Inner channels of each branch's bottleneck, which returns four times as many."""
    final: int
    """Channels before pooling."""
    classes: int
    names: tuple[str, ...] = ()
    """Names of the classes of your own data; empty if unknown."""
    crop: tuple[int, int] | None = None
    """Crop in evaluation: the shorter side that images are resized to, and the side of the centre crop, pixels."""
    pixels: tuple[Colour, Colour] | None = None
    """Mean and standard deviation (RGB, pixel values from 0 to 1) by which the training images were normalised."""
    kind: Literal["classification"] = field(default="classification", repr=False)

    def __post_init__(self) -> None:
        _require_one_a_class(self.classes, names=self.names)


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """Segmentation head: one label per cell of branch 0's grid, from all branches brought to that grid."""

    classes: int
    names: tuple[str, ...] = ()
    """Names of the classes of your own data; empty if unknown."""
    ids: tuple[int, ...] = ()
    """Pixel values of the classes in masks."""
    colours: tuple[tuple[int, int, int], ...] = ()
    """RGB colours of the classes."""
    sides: tuple[int, int] | None = None
    """Longer and shorter side that images are resized to fit within in evaluation, pixels."""
    pixels: tuple[Colour, Colour] | None = None
    """Mean and standard deviation (RGB, pixel values from 0 to 1) by which the training images were normalised."""
    kind: Literal["segmentation"] = field(default="segmentation", repr=False)

    def __post_init__(self) -> None:
        _require_one_a_class(self.classes, names=self.names, ids=self.ids, colours=self.colours)


@dataclass(frozen=True, kw_only=True)
class Detection:
    """Detection head: class scores and a box at every cell of branch 0's grid; see `models.detection`."""

    channels: int
    """Hidden channels of the head."""
    classes: int
    names: tuple[str, ...] = ()
    """Names of the classes of your own data; empty if unknown."""
    ids: tuple[int, ...] = ()
    """Category ids of the classes in annotation files."""
    sides: tuple[int, int] | None = None
    """Longer and shorter side that images are resized to fit within in evaluation, pixels."""
    pixels: tuple[Colour, Colour] | None = None
    """Mean and standard deviation (RGB, pixel values from 0 to 1) by which the training images were normalised."""
    kind: Literal["detection"] = field(default="detection", repr=False)

    def __post_init__(self) -> None:
        _require_one_a_class(self.classes, names=self.names, ids=self.ids)


def _require_one_a_class(classes: int, **known: Sequence[object]) -> None:
    """Raises ValueError unless there is a class, and each sequence is empty or has one entry per class."""
    if classes < 1:
        raise ValueError(f"head.classes: expected at least 1, got {classes}")
    for name, values in known.items():
        if len(values) not in (0, classes):
            raise ValueError(f"head.{name}: expected {classes}, one a class, got {len(values)}")


Head = Annotated[Classification | Segmentation | Detection, Kind]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Widths and modules of an MDEQ (Bai, Koltun & Kolter, NeurIPS 2020).

    Attributes:
        channels: channels of each branch, finest first; branch i has 1/2^i of the injection's height and width
        expansion: ratio of a residual block's inner channels to its outer ones
        kernels: kernel sizes of the block's two convolutions
        groups: groups of every group norm; half as many in the last one of f
        dropout: probability that a channel is dropped, one mask per sample and solve
        halvings: number of times that the stem halves the image
        injection: "first": the image enters branch 0, as released. "all": it enters every branch, brought to the
            branch's size by strided convolutions outside f
        injection_gain: factor of the injection; a larger one makes f depend less on its state
        output_affine: whether the last norm of f has gains and offsets
        output_gain: initial gain of that norm; below 1, f contracts more at the start
        weight_norm: whether the convolutions of f, except those that fuse branches, have weight normalisation
        momentum: momentum of batch normalisation's running statistics, in stem and head
        initialisation: "released": convolutions from N(0, 0.01²), but weight-normed ones as in torch, because the
            release overwrites its own numbers there before they are used. "default": all as in torch
        head: head of the network; None for features only, for your own head
    """

    channels: tuple[int, ...]
    expansion: float = 5
    kernels: tuple[int, int] = (3, 3)
    groups: int = 8
    dropout: float = 0.0
    halvings: int = 0
    injection: Literal["first", "all"] = "first"
    injection_gain: float = 1.0
    output_affine: bool = False
    output_gain: float = 1.0
    weight_norm: bool = True
    momentum: float = 0.1
    initialisation: Literal["released", "default"] = "released"
    head: Head | None = None

    def __post_init__(self) -> None:
        if not self.channels or min(self.channels) < 1 or self.groups < 1:
            raise ValueError(
                f"channels and groups must be at least 1, and at least one branch, got {self.channels} and "
                f"{self.groups}"
            )
        for width in self.channels:
            if width % self.groups or self.inner(width) % self.groups or self.inner(width) < 1:
                raise ValueError(
                    f"groups must divide the channels of every branch and its inner channels, got {self.groups} for "
                    f"{width} channels and {self.inner(width)} inner ones: choose other channels, expansion or groups"
                )
        if any(size < 1 or size % 2 == 0 for size in self.kernels):
            raise ValueError(f"kernels must be odd, so that they keep height and width, got {self.kernels}")
        if self.halvings < 0:
            raise ValueError(f"halvings must be at least 0, got {self.halvings}")
        if self.output_gain != 1 and not self.output_affine:
            raise ValueError(f"output_gain needs output_affine: without it there is no gain, got {self.output_gain}")
        if isinstance(self.head, Classification) and len(self.head.channels) != len(self.channels):
            raise ValueError(
                f"head.channels must name one width a branch: there are {len(self.channels)} branches, got "
                f"{self.head.channels}"
            )

    def inner(self, channels: int) -> int:
        """Inner channels of the residual block of a branch with `channels` channels."""
        return int(self.expansion * channels)

    def with_classes(self, classes: int) -> "Architecture":
        """This architecture with another number of classes, unnamed; unchanged without a head."""
        nameless = {name: () for name in ("names", "ids", "colours") if hasattr(self.head, name)}
        return self if self.head is None else replace(self, head=replace(self.head, classes=classes, **nameless))

    @property
    def multiple(self) -> int:
        """Divisor required of the height and width of images, so that every branch halves evenly."""
        return 2 ** (self.halvings + len(self.channels) - 1)


@dataclass(frozen=True, kw_only=True)
class Equilibrium:
    """How the fixed point is solved for and differentiated.

    Attributes:
        solver, stop: solver and stopping rule of the forward solve; `eval_stop` replaces `stop` in evaluation mode
        adjoint: gradient through the solve
        numerics: "core": `deq_core.fixed_point`, with samples independent and `max_steps` evaluations. "released":
            `deq_core.compat.released_fixed_point`, the rules under which the official checkpoints were trained and
            measured
        on_failure: what a solve does when samples miss the tolerance; "ignore" under the released rules
    """

    solver: deq.Solver = field(default_factory=deq.Broyden)
    stop: deq.Stop = field(default_factory=lambda: deq.Stop(max_steps=18, tol=1e-3))
    eval_stop: deq.Stop | None = None
    adjoint: deq.Adjoint = field(default_factory=deq.Implicit)
    numerics: Numerics = "core"
    on_failure: OnFailure = "ignore"

    def __post_init__(self) -> None:
        if self.numerics == "released" and self.on_failure != "ignore":
            raise ValueError(f"on_failure: must be 'ignore' where numerics are 'released', got {self.on_failure!r}")
        if self.numerics not in ("core", "released"):
            raise ValueError(f"numerics must be 'core' or 'released', got {self.numerics!r}")
        # Raises if something is not a solver, stop or adjoint, or they do not go together.
        deq.nn.DEQ(
            solver=self.solver,
            stop=self.stop,
            adjoint=self.adjoint,
            eval_stop=self.eval_stop,
            on_failure=self.on_failure,
        )


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A model in params.yaml and in the config.json of a checkpoint."""

    architecture: Architecture
    layer: LayerConfig
    """Solver, stop and gradient."""
    numerics: Numerics = "core"
    """Rules of the solve, those of deq_core or of the release; see `Equilibrium`."""

    def __post_init__(self) -> None:
        self.equilibrium()

    def equilibrium(self) -> Equilibrium:
        """The `Equilibrium` that the configuration describes."""
        return Equilibrium(**self.layer.choices(), numerics=self.numerics)
