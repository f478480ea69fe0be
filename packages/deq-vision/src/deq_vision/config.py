"""Sizes of the multiscale equilibrium models and how they are solved. A variant is made from another by `replace`."""

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
    """One label an image: bottlenecks on every branch, joined from fine to coarse, pooled."""

    channels: tuple[int, ...]
    """Inner channels of each branch's bottleneck, which returns four times as many."""
    final: int
    """Channels that are pooled."""
    classes: int
    names: tuple[str, ...] = ()
    """Of the classes, of one's own data; none where nobody has named them."""
    crop: tuple[int, int] | None = None
    """What it was trained to see of an image: its shorter side, and the square from its middle, pixels."""
    pixels: tuple[Colour, Colour] | None = None
    """Mean and deviation by which its images' pixels were normalised, shares of the greatest value, RGB."""
    kind: Literal["classification"] = field(default="classification", repr=False)

    def __post_init__(self) -> None:
        _require_one_a_class(self.classes, names=self.names)


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """One label a cell of branch 0's grid, from all branches brought to that grid."""

    classes: int
    names: tuple[str, ...] = ()
    """Of the classes, of one's own data; none where nobody has named them."""
    ids: tuple[int, ...] = ()
    """Values of the classes' pixels in masks."""
    colours: tuple[tuple[int, int, int], ...] = ()
    """RGB of the classes."""
    sides: tuple[int, int] | None = None
    """What its images were brought to: their longest longer and shorter side, pixels."""
    pixels: tuple[Colour, Colour] | None = None
    """Mean and deviation by which its images' pixels were normalised, shares of the greatest value, RGB."""
    kind: Literal["segmentation"] = field(default="segmentation", repr=False)

    def __post_init__(self) -> None:
        _require_one_a_class(self.classes, names=self.names, ids=self.ids, colours=self.colours)


@dataclass(frozen=True, kw_only=True)
class Detection:
    """Boxes: at every cell of branch 0's grid a score of each class and a box; see `models.detection`."""

    channels: int
    """Of the layers between the branches and these."""
    classes: int
    names: tuple[str, ...] = ()
    """Of the classes, of one's own data; none where nobody has named them."""
    ids: tuple[int, ...] = ()
    """Of the classes' categories in files of boxes."""
    sides: tuple[int, int] | None = None
    """What its images were brought to: their longest longer and shorter side, pixels."""
    pixels: tuple[Colour, Colour] | None = None
    """Mean and deviation by which its images' pixels were normalised, shares of the greatest value, RGB."""
    kind: Literal["detection"] = field(default="detection", repr=False)

    def __post_init__(self) -> None:
        _require_one_a_class(self.classes, names=self.names, ids=self.ids)


def _require_one_a_class(classes: int, **known: Sequence[object]) -> None:
    """Raises ValueError unless there is one of each for every class, or none."""
    for name, values in known.items():
        if len(values) not in (0, classes):
            raise ValueError(f"head.{name}: expected {classes}, one a class, got {len(values)}")


Head = Annotated[Classification | Segmentation | Detection, Kind]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Widths and choices of modules of an MDEQ (Bai, Koltun & Kolter, NeurIPS 2020).

    Attributes:
        channels: channels of each branch, finest first; branch i has 1/2^i of the injection's height and width
        expansion: inner channels of a branch's residual block over its own
        kernels: kernel sizes of the block's two convolutions
        groups: groups of every group norm; half as many in the last one of f
        dropout: probability that a channel is dropped, one mask a sample and solve
        halvings: how often the stem halves the image
        injection: "first": the image enters branch 0, as released. "all": every branch, brought to its size by strided
            convolutions outside of f
        injection_gain: factor of the injection; a larger one makes f depend less on its state
        output_affine: whether the last norm of f has gains and offsets
        output_gain: their initial gain; below 1 f contracts more at the start
        weight_norm: weight normalisation of f's convolutions, but for those that fuse branches
        momentum: of the running statistics of batch normalisation, in stem and head
        initialisation: "released": convolutions from N(0, 0.01²), but weight-normed ones as torch does, because there
            the release's own numbers are overwritten before they are used. "default": all as torch does
        head: None: the network has features only, for a head of one's own
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
        """Inner channels of the residual block of a branch."""
        return int(self.expansion * channels)

    def with_classes(self, classes: int) -> "Architecture":
        """The same with another number of classes; unchanged without a head."""
        nameless = {name: () for name in ("names", "ids", "colours") if hasattr(self.head, name)}
        return self if self.head is None else replace(self, head=replace(self.head, classes=classes, **nameless))

    @property
    def multiple(self) -> int:
        """What height and width of an image must be multiples of, so that every branch halves evenly."""
        return 2 ** (self.halvings + len(self.channels) - 1)


@dataclass(frozen=True, kw_only=True)
class Equilibrium:
    """How the fixed point is found and differentiated.

    Attributes:
        solver, stop: the forward solve; `eval_stop` replaces `stop` in evaluation mode
        adjoint: how gradients pass through it
        numerics: "core": `deq_core.fixed_point`, every sample by itself, `max_steps` evaluations. "released":
            `deq_core.compat.released_fixed_point`, the rules under which the official checkpoints were trained and
            measured
        on_failure: what a solve does when samples end above the tolerance; the released rules know no such samples
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


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A model as params.yaml and the config.json of a checkpoint write it."""

    architecture: Architecture
    layer: LayerConfig
    """Solver, stop and gradient."""
    numerics: Numerics = "core"
    """By whose rules the solver runs; see `Equilibrium`."""

    def __post_init__(self) -> None:
        self.equilibrium()

    def equilibrium(self) -> Equilibrium:
        """The layer, built."""
        return Equilibrium(**self.layer.choices(), numerics=self.numerics)


@dataclass(frozen=True)
class Variant:
    """A named size, and how it is solved unless one says otherwise."""

    architecture: Architecture
    equilibrium: Equilibrium


def _released(forward: int, backward: int, *, relative: bool) -> Equilibrium:
    def stop(steps: int) -> deq.Stop:
        return deq.Stop(max_steps=steps, tol=1e-3, relative=relative)

    adjoint = deq.Implicit(deq.Broyden(), stop(backward), on_failure="ignore")
    return Equilibrium(solver=deq.Broyden(), stop=stop(forward), adjoint=adjoint, numerics="released")


_SMALL = (32, 64, 128, 256)
_LARGE = (80, 160, 320, 640)
_XL = (88, 176, 352, 704)

CIFAR_TINY = Architecture(channels=(24, 24), dropout=0.25, head=Classification(channels=(8, 16), final=200, classes=10))
CIFAR_LARGE = Architecture(
    channels=_SMALL, dropout=0.3, head=Classification(channels=(14, 28, 56, 112), final=1680, classes=10)
)
CIFAR_LARGE_REG = replace(CIFAR_LARGE, dropout=0.22)
IMAGENET_SMALL = Architecture(
    channels=_SMALL,
    halvings=2,
    output_affine=True,
    head=Classification(channels=(24, 48, 96, 192), final=2048, classes=1000),
)
IMAGENET_SMALL_REG = replace(
    IMAGENET_SMALL,
    dropout=0.02,
    output_affine=False,
    head=Classification(channels=(28, 56, 112, 224), final=2048, classes=1000),
)
IMAGENET_LARGE = replace(
    IMAGENET_SMALL, channels=_LARGE, head=Classification(channels=(32, 64, 128, 256), final=2048, classes=1000)
)
IMAGENET_LARGE_REG = replace(IMAGENET_LARGE, output_affine=False)
IMAGENET_XL = replace(IMAGENET_LARGE, channels=_XL, expansion=6)
CITYSCAPES_SMALL = Architecture(
    channels=_SMALL, dropout=0.05, halvings=2, output_affine=True, momentum=0.01, head=Segmentation(classes=19)
)
CITYSCAPES_LARGE = replace(CITYSCAPES_SMALL, channels=_LARGE, dropout=0.03)
CITYSCAPES_XL = replace(CITYSCAPES_SMALL, channels=_XL, expansion=6, dropout=0.04)

# For images of 32x32 and 64x128 pixels, trained on a CPU for minutes: a quarter of the image's resolution, the image
# entering every branch and a small output gain, without which the Jacobian's radius exceeds 1 before training.
MINI_DIGITS = Architecture(
    channels=(24, 32),
    expansion=3,
    halvings=2,
    injection="all",
    injection_gain=2.0,
    output_affine=True,
    output_gain=0.5,
    initialisation="default",
    head=Classification(channels=(12, 16), final=96, classes=10),
)
MINI_STREET = replace(MINI_DIGITS, channels=(16, 24, 32), head=Segmentation(classes=8))
MINI_VIDEO = replace(MINI_STREET, head=None)
_MINI = Equilibrium(
    stop=deq.Stop(max_steps=12, tol=None),
    eval_stop=deq.Stop(max_steps=24, tol=1e-3),
    adjoint=deq.Implicit(deq.Broyden(), deq.Stop(max_steps=12, tol=1e-4), on_failure="ignore"),
)

_IMAGENET = _released(26, 27, relative=False)
_CITYSCAPES = _released(27, 30, relative=False)

VARIANTS = {
    "cifar-tiny": Variant(CIFAR_TINY, _released(18, 20, relative=True)),
    "cifar-large": Variant(CIFAR_LARGE, _released(18, 20, relative=True)),
    "cifar-large-reg": Variant(CIFAR_LARGE_REG, _released(8, 7, relative=True)),
    "imagenet-small": Variant(IMAGENET_SMALL, _IMAGENET),
    "imagenet-small-reg": Variant(IMAGENET_SMALL_REG, _released(14, 14, relative=False)),
    "imagenet-large": Variant(IMAGENET_LARGE, _IMAGENET),
    "imagenet-large-reg": Variant(IMAGENET_LARGE_REG, _released(14, 14, relative=False)),
    "imagenet-xl": Variant(IMAGENET_XL, _IMAGENET),
    "cityscapes-small": Variant(CITYSCAPES_SMALL, _CITYSCAPES),
    "cityscapes-large": Variant(CITYSCAPES_LARGE, _CITYSCAPES),
    "cityscapes-xl": Variant(CITYSCAPES_XL, _CITYSCAPES),
    "mini-digits": Variant(MINI_DIGITS, _MINI),
    "mini-street": Variant(MINI_STREET, _MINI),
    "mini-video": Variant(MINI_VIDEO, _MINI),
}
"""Every size by name; those whose `numerics` are "released" have official checkpoints."""
