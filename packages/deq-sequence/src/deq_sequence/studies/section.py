"""The section `sequence` of params.yaml: texts, models, recipes and the parameters of the studies."""

from dataclasses import dataclass, field

from deq_core.experiment.config import Budget, Name, Names, Seeds, require_keys
from deq_core.experiment.config.plot import Plot
from deq_sequence.data.texts import Text
from deq_sequence.params import Model, Train
from deq_sequence.studies.delta import Delta
from deq_sequence.studies.paths import PathStudy
from deq_sequence.studies.perplexity import Baselines, Evaluate
from deq_sequence.studies.training_costs import SequenceCosts


@dataclass(frozen=True, kw_only=True)
class Sequence:
    """The section `sequence` of a profile."""

    core_minutes: Budget | None = None
    seeds: Seeds
    methods: Names
    """Keys of `model`, `train` and `evaluate` that are trained and evaluated."""
    texts: dict[Name, Text]
    model: dict[Name, Model]
    train: dict[Name, Train]
    evaluate: dict[Name, Evaluate]
    delta: dict[Name, Delta] = field(default_factory=dict)
    """Settings of the delta study, for the methods in it."""
    paths: PathStudy = field(default_factory=PathStudy)
    costs: SequenceCosts | None = None
    """Costs of a training step; None does not measure them."""
    baselines: Baselines = field(default_factory=Baselines)
    plot: Plot = field(default_factory=Plot)

    def __post_init__(self) -> None:
        if not self.seeds or not self.methods:
            raise ValueError("seeds and methods: expected at least one of each")
        for place in ("model", "train", "evaluate"):
            require_keys("methods", self.methods, place, getattr(self, place))
        require_keys("delta", self.delta, "methods", self.methods)
        require_keys("paths.methods", self.paths.methods, "methods", self.methods)
        for name in self.methods:
            solved = {
                f"train.{name}.jitter": self.train[name].jitter != (0, 0),
                f"evaluate.{name}.stop": self.evaluate[name].stop is not None,
                f"delta.{name}": name in self.delta,
            }
            self.model[name].require_solves(solved)
        splits = {each.text: (name, each.split) for name, each in reversed(self.evaluate.items())}
        for name, each in self.evaluate.items():
            first, split = splits[each.text]
            if each.split != split:
                raise ValueError(
                    f"evaluate.{name}.split: expected {split} as of evaluate.{first}, since n-grams are measured once "
                    f"a text, and both are of {each.text}; got {each.split}"
                )
        read = {
            "train": self.train,
            "evaluate": self.evaluate,
            "delta": self.delta,
            "paths.measure": self.paths.measure,
        }
        for place, parts in read.items():
            require_keys(f"{place}.text", [part.text for part in parts.values()], "texts", self.texts)
