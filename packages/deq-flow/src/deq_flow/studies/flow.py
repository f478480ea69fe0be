"""The `flow` section of params.yaml: the parameters of the optical-flow pipeline.

With an unknown key or a wrong type, every command stops before it does any work.
"""

from dataclasses import dataclass

from deq_core.experiment.config import Budget, Name, Names, Seeds, require_keys
from deq_core.experiment.config.plot import Plot
from deq_flow.data.mini.write import Data
from deq_flow.evaluation.baselines import Baseline
from deq_flow.params import Model, Train
from deq_flow.studies.gradients import GradientStudy
from deq_flow.studies.paths import PathStudy
from deq_flow.studies.reuse import Reuse
from deq_flow.studies.table import Evaluate
from deq_flow.studies.training_costs import FlowCosts


@dataclass(frozen=True, kw_only=True)
class CurriculumStage:
    """A stage of the curriculum: networks with their recipes, trained from the weights of the stage before."""

    methods: Names
    """Keys of `model` and `train` to train and evaluate."""
    model: dict[Name, Model]
    train: dict[Name, Train]

    def __post_init__(self) -> None:
        for place, known in (("model", self.model), ("train", self.train)):
            require_keys("methods", self.methods, place, known)


@dataclass(frozen=True, kw_only=True)
class Curriculum:
    """The stages after FlyingChairs, in order (Teed and Deng, ECCV 2020, section 4)."""

    things: CurriculumStage
    sintel: CurriculumStage
    kitti: CurriculumStage

    def __post_init__(self) -> None:
        for earlier, later in (("things", "sintel"), ("sintel", "kitti")):
            require_keys(
                f"{later}.methods", getattr(self, later).methods, f"{earlier}.methods", getattr(self, earlier).methods
            )


@dataclass(frozen=True, kw_only=True)
class Flow:
    """One profile of the optical-flow pipeline."""

    core_minutes: Budget | None = None
    seeds: Seeds
    methods: Names
    """Keys of `model` and `train` to train on FlyingChairs and evaluate."""
    data: Data
    model: dict[Name, Model]
    train: dict[Name, Train]
    curriculum: Curriculum
    evaluate: Evaluate
    reuse: Reuse
    paths: PathStudy
    gradients: GradientStudy
    costs: FlowCosts
    baselines: dict[Name, Baseline]
    plot: Plot

    def __post_init__(self) -> None:
        for place, known in (("model", self.model), ("train", self.train)):
            require_keys("methods", self.methods, place, known)
        require_keys("curriculum.things.methods", self.curriculum.things.methods, "methods", self.methods)
        require_keys("reuse.methods", self.reuse.methods, "methods", self.methods)
        require_keys("paths.methods", self.paths.methods, "methods", self.methods)
        require_keys("gradients.measure.sets", self.gradients.measure.sets, "evaluate.sets", self.evaluate.sets)
        if not self.seeds:
            raise ValueError("seeds: expected at least one seed")
