"""The `delta` section of params.yaml as dataclasses: every number of the studies of the delta rule, with its meaning.

What DeltaDEQ (Wang et al., NeurIPS 2024) measures: how much of an equilibrium solve can be skipped because parts of
the state have stopped to change, on flow networks, on a sine fitted by a recurrent cell, and on images.
"""

from dataclasses import dataclass, field
from typing import Literal

from deq_core.experiment.config import Name, Seed, require_keys
from deq_core.experiment.config.layer import LayerConfig, Solver
from deq_core.experiment.config.optim import Every, OptimConfig
from deq_core.experiment.study.delta import Rule as Rule
from deq_core.experiment.study.delta import Variant as Variant

Start = Literal["cold", "warm", "reuse", "reuse_interpolated", "stream"]
"""What a solve starts from: see `sequences.start_from`; "stream" is reuse that keeps the delta memories too."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """What of a set is measured, and how its frames start."""

    starts: tuple[Start, ...] = ("cold",)
    """All but cold need a set of videos."""
    sequences: int | None = None
    """The first so many videos (or single pairs) of the set; None takes all."""
    frames: int | None = None
    """The first so many pairs of a video; None takes all."""

    def __post_init__(self) -> None:
        for name, value in (("sequences", self.sequences), ("frames", self.frames), ("starts", len(self.starts))):
            if value is not None and value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}")


@dataclass(frozen=True, kw_only=True)
class Example:
    """One solve of a sweep."""

    set: str
    variant: str
    threshold: float


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Error of flow networks against the work that the delta rule leaves."""

    sets: dict[str, Part]
    """By names of `sets.SETS`."""
    variants: dict[str, Variant]
    dense_steps: tuple[int, ...]
    """Evaluations of the dense solves that the delta rule is compared with."""
    skip: tuple[str, ...] = ("flow_head.conv2",)
    """Layers of the update block that stay dense; the release's choice."""
    batch_size: int = 1
    """Scenes (or single pairs) solved together. With a tolerance take 1: a batch goes on until all are done."""
    example: Example
    """Whose maps are kept: those of the last pair of the first scene."""
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError(f"batch_size: expected at least 1, got {self.batch_size}")
        variant = self.variants.get(self.example.variant)
        if (
            variant is None
            or self.example.threshold not in variant.rule.thresholds
            or self.example.set not in self.sets
        ):
            raise ValueError(f"example: expected a set, a variant and one of its thresholds, got {self.example}")


@dataclass(frozen=True, kw_only=True)
class Convergence:
    """When each element of a flow network's state stops to change."""

    sets: tuple[str, ...]
    solver: Solver
    steps: int
    """Evaluations of the solve that is watched."""
    tolerance: float
    """A change is small up to this share of the root mean square of its part (hidden state or flow) at the end."""
    pairs: int | None = None
    """The first so many pairs of a set; None takes all."""
    points: int = 5
    """Cells whose trajectories are drawn, along the middle row of the first pair."""
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        if self.steps < 2 or not self.tolerance > 0 or self.points < 1:
            raise ValueError(
                f"convergence: expected at least 2 steps, a tolerance above 0 and at least 1 point, got "
                f"{self.steps}, {self.tolerance} and {self.points}"
            )


@dataclass(frozen=True, kw_only=True)
class Sine:
    """The release's demonstration: a recurrent cell fitted to y = sin(x)."""

    steps: int
    """Updates, each on all points."""
    optim: OptimConfig
    layer: LayerConfig | None = None
    """Solve and gradient of training; None trains through all `evaluations`, as the release does."""
    evaluations: int = 15
    """Steps of the cell, from zeros, after training."""
    width: int = 20
    """Units of the cell."""
    points: int = 200
    """Equally spaced x from -2π to 2π."""
    penalty: float = 0.5
    """Weight of the excess over 1 of the recurrent weight's largest singular value."""
    probes: int = 1000
    """Random x at which convergence is measured."""
    tolerance: float = 0.01
    """A unit has settled where a step changes it by no more."""
    rules: dict[str, Rule]
    """Of the delta rule after training, by name."""
    every: Every = field(default_factory=Every)
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("steps", "width", "points", "probes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if self.evaluations < 2:
            raise ValueError(f"evaluations: expected at least 2, got {self.evaluations}")


@dataclass(frozen=True, kw_only=True)
class Picture:
    """The image that is represented."""

    file: str = "skimage/data/astronaut.png"
    """One of the photographs inside the installed packages."""
    size: int | None = 64
    """Height and width that the centre's square is reduced to; None keeps the whole image."""
    channels: Literal[1, 3] = 3
    """Colours, or their mean."""


@dataclass(frozen=True, kw_only=True)
class Representation:
    """An implicit neural representation whose hidden layers are solved for a fixed point ((Implicit)², NeurIPS 2021).

    z = f(z, x): "fourier" multiplies W z + b by sines of the coordinates x (a multiplicative filter), so f is affine
    in z; "siren" takes sin(W z + b + V x).
    """

    kind: Literal["fourier", "siren"]
    width: int
    scale: float
    """By how much the coordinates' weights are enlarged: the highest frequencies at the start of training."""
    layer: LayerConfig
    """Solve and gradient of training."""
    layers: int = 1
    """Hidden layers within one evaluation."""
    bound: float | None = 0.97
    """Spectral norm of the hidden weights; None leaves them free."""
    threshold: float | None = None
    """Of the delta rule, as released, in the solves of training; None trains densely."""
    reuse: bool = False
    """Whether a solve of training starts from the state of the update before."""


@dataclass(frozen=True, kw_only=True)
class Images:
    """How representations of one image are trained and measured."""

    picture: Picture
    steps: int
    """Updates, each on all pixels."""
    optim: OptimConfig
    evaluations: int
    """Evaluations of the solves after training, by plain iteration from zeros."""
    rules: dict[str, Rule]
    """Of the delta rule after training, by name."""
    tolerance: float = 0.01
    """A unit has settled where a step changes it by no more than this share of the state's root mean square."""
    probes: int = 4096
    """Pixels at most, equally spaced, at which that is measured."""
    every: Every = field(default_factory=Every)
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        if self.evaluations < 2 or self.probes < 1:
            raise ValueError(f"images: expected at least 2 evaluations and 1 probe, got {self}")


@dataclass(frozen=True, kw_only=True)
class Delta:
    """One profile of the studies of the delta rule."""

    seeds: tuple[Seed, ...]
    """Of the sine and the images."""
    methods: tuple[Name, ...]
    """Keys of the flow section's `model`: the trained equilibrium networks that are measured."""
    method_seeds: tuple[Seed, ...]
    """Of those networks; seeds of the flow section."""
    stage: Literal["train", "things", "sintel", "kitti"]
    """Of the flow section's training after which they are measured; "train" is FlyingChairs."""
    shipped: tuple[Name, ...]
    """Checkpoints that come with the package, measured beside them: names of `networks.SHIPPED`."""
    sweep: dict[Name, Sweep]
    """By network, a key of `methods` or `shipped`."""
    convergence: dict[Name, Convergence]
    """By network."""
    sine: dict[Name, Sine]
    """Fits by name."""
    images: Images
    representations: dict[Name, Representation]
    """Of that image, by name."""
    dpi: int
    """Of maps within figures."""

    def __post_init__(self) -> None:
        if not self.seeds:
            raise ValueError("seeds: expected at least one seed")
        if self.methods and not self.method_seeds:
            raise ValueError("method_seeds: expected at least one seed, as there are methods")
        networks = (*self.methods, *self.shipped)
        if not networks or len(set(networks)) != len(networks):
            raise ValueError(f"methods, shipped: expected at least one network, each once, got {list(networks)}")
        require_keys("methods, shipped", networks, "sweep", self.sweep)
        require_keys("methods, shipped", networks, "convergence", self.convergence)
