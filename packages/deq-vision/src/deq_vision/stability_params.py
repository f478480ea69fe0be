"""The `stability` section of params.yaml as dataclasses: what happens when a network is solved longer than in training.

After "Test like you Train in Implicit Deep Learning" (Ramzi, Ablin, Peyré & Moreau, 2023), figure 5.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

import deq_core as deq
from deq_core.experiment.config import Seed
from deq_core.experiment.config.layer import ImplicitConfig
from deq_vision.config import ModelConfig
from deq_vision.params import Classify, Experiment, Recipe

Method = Literal["implicit", "unrolled"]
"""How gradients pass through the solve: by the implicit function theorem, or through the solver's own operations."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """At which numbers of evaluations the networks are tested."""

    sweep: int
    """Accuracy, loss and residual after each evaluation up to this one, from one solve."""
    splits: tuple[Literal["train", "val", "test"], ...] = ("test",)
    """Settings are chosen on val; test is measured once they are."""
    batch_size: int = 50
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        if min(self.sweep, self.batch_size, self.threads) < 1 or not self.splits:
            raise ValueError(f"expected sweep, batch_size and threads of at least 1, and a split, got {self}")


@dataclass(frozen=True, kw_only=True)
class Stability:
    """Networks of one pretraining a seed, trained with N evaluations in both ways and tested with others."""

    seeds: tuple[Seed, ...]
    methods: tuple[Method, ...] = ("implicit", "unrolled")
    steps: tuple[int, ...]
    """N: evaluations of f in training."""
    task: Classify
    model: ModelConfig
    """Of the implicit networks. N takes the place of its stop's `max_steps`; unrolled ones have another gradient."""
    pretraining: Recipe
    """Of the weights that all networks of a seed start from."""
    training: Recipe
    """Of each network, from there on, with an optimiser and a schedule of its own."""
    measure: Measure
    dpi: int = 150
    longer: tuple[int, ...] = field(default=(7,))
    """Evaluations beyond N at which the report states the change against N; the last of the sweep is added."""

    def __post_init__(self) -> None:
        for name, values in (("seeds", self.seeds), ("methods", self.methods), ("steps", self.steps)):
            if not values or len(set(values)) != len(values):
                raise ValueError(f"{name}: expected different ones, and one at least, got {list(values)}")
        if min(self.steps) < 1 or max(self.steps) >= self.measure.sweep:
            raise ValueError(
                f"steps: expected at least 1 and fewer than measure.sweep, {self.measure.sweep}, so that longer solves "
                f"are measured, got {list(self.steps)}"
            )
        if min(self.longer, default=1) < 1:
            raise ValueError(f"longer: expected at least 1, got {list(self.longer)}")
        if not isinstance(self.model.layer.adjoint, ImplicitConfig):
            raise ValueError("model.layer.adjoint: expected kind implicit; unrolled networks are made from it")
        if self.model.numerics != "core":
            raise ValueError("model.numerics: expected core, whose recorded states are those of solves of that length")

    def pretrained(self) -> Experiment:
        """The training that comes before all others."""
        return Experiment(task=self.task, model=self.model, recipe=self.pretraining)

    def trained(self, method: Method, steps: int) -> Experiment:
        """The training of one network.

        Raises:
            ValueError: `steps` is none of those of the study.
        """
        if steps not in self.steps:
            raise ValueError(f"steps: expected one of {', '.join(map(str, self.steps))}, got {steps}")
        return Experiment(task=self.task, model=variant(self.model, method, steps), recipe=self.training)


def variant(model: ModelConfig, method: Method, steps: int) -> ModelConfig:
    """`model` solved by `steps` evaluations in training, with the gradient of `method`."""
    layer = replace(model.layer, stop=replace(model.layer.stop, max_steps=steps), eval_stop=None)
    if method == "unrolled":
        layer = replace(layer, adjoint=deq.Unrolled())
    return replace(model, layer=layer)
