"""Models and recipes in the section `sequence` of params.yaml."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from deq_core.experiment.config import ConfigError, Name
from deq_core.experiment.config.layer import LayerConfig
from deq_core.experiment.config.recipe import EquilibriumRecipe
from deq_sequence.config import VARIANTS, Architecture, Equilibrium
from deq_sequence.data.texts import TokenChoice


@dataclass(frozen=True, kw_only=True)
class Model:
    """A DEQ-Transformer, or its cell unrolled."""

    name: str
    """Architecture: a name that `deq_sequence.build` accepts, such as mini. The vocabulary is that of the text."""
    memory: int
    """Number of positions remembered from segment to segment."""
    layer: LayerConfig | None = None
    """Solver, stop and gradient of an equilibrium."""
    steps: int | None = None
    """Depth of the weight-tied transformer, unrolled, instead of a layer."""
    dropout: float | None = None
    """Dropout; None for that of the architecture."""

    def __post_init__(self) -> None:
        if self.name not in VARIANTS:
            raise ValueError(f"model: name must be one of {', '.join(VARIANTS)}, got {self.name!r}")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            raise ValueError(f"model: dropout must be from 0 to below 1, got {self.dropout}")
        if (self.layer is None) == (self.steps is None):
            both = "neither" if self.layer is None else "both"
            raise ValueError(f"model: expected either `layer` (equilibrium) or `steps` (unrolled), got {both}")
        self.equilibrium()

    def require_solves(self, given: Mapping[str, bool]) -> None:
        """Raises ValueError if a setting is given, by name, that an unrolled network would ignore."""
        if self.steps is not None and (ignored := [name for name, is_given in given.items() if is_given]):
            raise ValueError(f"{ignored[0]}: only for solves, and an unrolled model has none; leave it out")

    def architecture(self, vocabulary: int) -> Architecture:
        """The architecture for a text with a vocabulary of this size."""
        size = VARIANTS[self.name][0]
        size = size if self.dropout is None else replace(size, dropout=self.dropout)
        try:
            return replace(size, vocabulary=vocabulary)
        except ValueError as error:
            raise ConfigError(f"model: {self.name} cannot have the text's vocabulary: {error}") from None

    def equilibrium(self) -> Equilibrium:
        """The equilibrium of the model."""
        choices = {} if self.layer is None else self.layer.choices()
        return Equilibrium(**choices, memory=self.memory, steps=self.steps)


@dataclass(frozen=True, kw_only=True)
class Train(EquilibriumRecipe):
    """Training settings. A sample is a segment of one row of the text."""

    text: Name
    """Key of `texts`."""
    length: int
    """Number of tokens in a segment."""
    shift: bool = False
    """Whether each epoch starts at a random position of the text, so that rows and segments are cut elsewhere."""
    validation_tokens: int | None = None
    """Number of tokens of the validation text to measure during training; None for all."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.length < 1 or (self.validation_tokens is not None and self.validation_tokens < 2):
            raise ValueError(
                "train: length must be at least 1 and validation_tokens at least 2, got "
                f"{self.length}, {self.validation_tokens}"
            )


@dataclass(frozen=True, kw_only=True)
class Training:
    """Contents of a recipe file: a model and its training."""

    tokens: TokenChoice = field(default_factory=TokenChoice)
    """Tokenisation of a text file."""
    model: Model
    train: Train

    def __post_init__(self) -> None:
        self.model.require_solves({"train.jitter": self.train.jitter != (0, 0)})
