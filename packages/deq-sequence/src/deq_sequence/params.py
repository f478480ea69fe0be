"""Models and their recipes, as the section `sequence` of params.yaml writes them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from deq_core.experiment.config import ConfigError, Name
from deq_core.experiment.config.layer import LayerConfig
from deq_core.experiment.config.recipe import EquilibriumRecipe
from deq_sequence.config import VARIANTS, Architecture, Equilibrium
from deq_sequence.data.texts import TokenChoice


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

    def require_solves(self, given: Mapping[str, bool]) -> None:
        """Raises ValueError where anything is given, by name, that an unrolled network would ignore."""
        if self.steps is not None and (ignored := [name for name, is_given in given.items() if is_given]):
            raise ValueError(f"{ignored[0]}: of solves, which an unrolled model has none of; leave it out")

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
class Training:
    """A model and how it is trained: what a file for one training has."""

    tokens: TokenChoice = field(default_factory=TokenChoice)
    """What a text file is read as."""
    model: Model
    train: Train

    def __post_init__(self) -> None:
        self.model.require_solves({"train.jitter": self.train.jitter != (0, 0)})
