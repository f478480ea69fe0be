"""The `sequence` section of params.yaml as dataclasses: texts, models, recipes and how models are measured."""

from dataclasses import dataclass, field, replace

from deq_core.experiment.config import ConfigError, Name, Seed, require_keys
from deq_core.experiment.config.layer import LayerConfig, Solver, StopConfig
from deq_core.experiment.config.plot import Plot as Plot
from deq_core.experiment.config.recipe import EquilibriumRecipe
from deq_sequence.config import VARIANTS, Architecture, Equilibrium
from deq_sequence.data.texts import Text
from deq_sequence.delta_params import Delta


@dataclass(frozen=True, kw_only=True)
class Model:
    """A DEQ-Transformer, or the same layer unrolled."""

    name: str
    """Sizes: a name that `deq_sequence.build` knows, such as mini. The vocabulary is that of the text."""
    memory: int
    """Positions remembered from segment to segment."""
    layer: LayerConfig | None = None
    """Solver, stop and gradient of an equilibrium."""
    steps: int | None = None
    """A number instead of a layer makes the weight-tied transformer of that depth: so many evaluations, each
    differentiated."""
    dropout: float | None = None
    """None is that of the sizes."""

    def __post_init__(self) -> None:
        if self.name not in VARIANTS:
            raise ValueError(f"model: name must be one of {', '.join(VARIANTS)}, got {self.name!r}")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise ValueError(f"model: dropout must be from 0 to below 1, got {self.dropout}")
        if (self.layer is None) == (self.steps is None):
            both = "neither" if self.layer is None else "both"
            raise ValueError(f"model: expected `layer`, or `steps` of an unrolled network, which has none, got {both}")
        self.equilibrium()

    def architecture(self, vocabulary: int) -> Architecture:
        """The sizes, for a text with so many different tokens."""
        size = VARIANTS[self.name][0]
        size = size if self.dropout is None else replace(size, dropout=self.dropout)
        try:
            return replace(size, vocabulary=vocabulary)
        except ValueError as error:
            raise ConfigError(f"model: {self.name} cannot have the text's vocabulary: {error}") from None

    def equilibrium(self) -> Equilibrium:
        """How it is solved."""
        choices = {} if self.layer is None else self.layer.choices()
        return Equilibrium(**choices, memory=self.memory, steps=self.steps)


@dataclass(frozen=True, kw_only=True)
class Train(EquilibriumRecipe):
    """The recipe of a training. A sample is a segment of one row of the text."""

    text: Name
    """Key of `texts`."""
    length: int
    """Tokens of a segment."""
    shift: bool = False
    """Whether each epoch begins at another place of the text, so that rows and segments are cut elsewhere."""
    validation_tokens: int | None = None
    """Tokens of the validation text that a network in training is measured on; None is all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.length < 1 or (self.validation_tokens is not None and self.validation_tokens < 2):
            raise ValueError(
                "train: length must be at least 1 and validation_tokens at least 2, got "
                f"{self.length}, {self.validation_tokens}"
            )


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """How trained models are measured."""

    text: Name
    """Key of `texts`; the training's own."""
    length: int
    """Tokens of a segment."""
    memory: int
    """Positions remembered from segment to segment."""
    batch_size: int
    """Rows that the text is read in, side by side; each begins without memory."""
    stride: int | None = None
    """Tokens from one segment to the next; None is `length`, as released. Less reads tokens again, as context."""
    stop: StopConfig | None = None
    """Stop of the solve that is reported; None is the model's own."""
    sweep: int
    """Perplexity and residual are also measured after each evaluation up to this one."""
    solvers: dict[str, Solver]
    """Solvers of the sweep, by what they are called."""
    sweep_tokens: int | None = None
    """Tokens of the text that the sweep reads; None is all."""
    threads: int = 1

    def __post_init__(self) -> None:
        if min(self.length, self.batch_size, self.sweep, self.threads) < 1 or self.memory < 0:
            raise ValueError(
                "evaluate: length, batch_size, sweep and threads must be at least 1 and memory at least 0, got "
                f"{self.length}, {self.batch_size}, {self.sweep}, {self.threads} and {self.memory}"
            )
        if self.stride is not None and not 1 <= self.stride <= self.length:
            raise ValueError(f"evaluate: stride must be from 1 to length = {self.length}, got {self.stride}")


@dataclass(frozen=True, kw_only=True)
class Baselines:
    """Kneser-Ney language models of several orders, on every text."""

    orders: tuple[int, ...] = (1, 2, 3)


@dataclass(frozen=True, kw_only=True)
class Sequence:
    """One profile of the language models."""

    seeds: tuple[Seed, ...]
    methods: tuple[Name, ...]
    """Keys of `model`, `train` and `evaluate` that are trained and measured."""
    texts: dict[Name, Text]
    model: dict[Name, Model]
    train: dict[Name, Train]
    evaluate: dict[Name, Evaluate]
    delta: dict[Name, Delta] = field(default_factory=dict)
    """Methods that are measured under the delta rule too."""
    baselines: Baselines = field(default_factory=Baselines)
    plot: Plot = field(default_factory=Plot)

    def __post_init__(self) -> None:
        if not self.seeds or not self.methods:
            raise ValueError("seeds and methods: expected at least one of each")
        for place in ("model", "train", "evaluate"):
            require_keys("methods", self.methods, place, getattr(self, place))
        require_keys("delta", self.delta, "methods", self.methods)
        for place, parts in (("train", self.train), ("evaluate", self.evaluate), ("delta", self.delta)):
            require_keys(f"{place}.text", [part.text for part in parts.values()], "texts", self.texts)
