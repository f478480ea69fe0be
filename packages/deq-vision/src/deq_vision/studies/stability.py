"""The effect of more evaluations at test time than in training, for two training methods.

After "Test like you Train in Implicit Deep Learning" (Ramzi, Ablin, Peyré & Moreau, 2023), figures 5 to 7: networks
with the same pretraining for each seed are trained with N evaluations of f, by the implicit gradient or unrolled, and
tested with other numbers, by accuracy and by loss, on test and on training images.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch

import deq_core as deq
from deq_core.experiment import distributed
from deq_core.experiment.config import Budget, Once, Seed, Seeds
from deq_core.experiment.config.layer import ImplicitConfig
from deq_core.experiment.data.released import located
from deq_core.experiment.study.stage import Job, Section, Stage
from deq_core.experiment.tables import numbers
from deq_vision.config import ModelConfig
from deq_vision.evaluate import Sweep
from deq_vision.models.build import load
from deq_vision.params import Classify, Experiment, Recipe
from deq_vision.studies.paths import Followable, VisionPaths
from deq_vision.studies.paths import measure as follow
from deq_vision.tasks import batches_in_order, require_head
from deq_vision.train import train

Method = Literal["implicit", "unrolled"]
"""Gradient of the solve: by the implicit function theorem, or by unrolling the solver."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """Evaluation settings of the networks."""

    sweep: int
    """Number of evaluations after each of which accuracy, loss and residual are measured, from one solve."""
    splits: tuple[Literal["train", "val", "test"], ...] = ("test",)
    """Splits to measure: val to choose settings, test once they are chosen."""
    training_images: int | None = None
    """Number of images of `train`, evenly spaced and without augmentation; None for all."""
    batch_size: int = 50
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        images = 1 if self.training_images is None else self.training_images
        if min(self.sweep, images, self.batch_size, self.threads) < 1 or not self.splits:
            raise ValueError(
                f"expected sweep, training_images, batch_size and threads of at least 1, and a split, got {self}"
            )


@dataclass(frozen=True, kw_only=True)
class Stability:
    """The section `stability` of params.yaml."""

    core_minutes: Budget | None = None
    seeds: Seeds
    methods: Once[Method] = ("implicit", "unrolled")
    steps: Once[int]
    """Values of N, the number of evaluations of f in training."""
    task: Classify
    model: ModelConfig
    """Model of the implicit networks, with N as its stop's `max_steps`; unrolled ones differ in the adjoint."""
    pretraining: Recipe
    """Recipe of the weights that all networks of a seed start from."""
    training: Recipe
    """Recipe of each network's further training, with a new optimiser and schedule."""
    measure: Measure
    paths: VisionPaths
    """Settings of path independence for each network."""
    dpi: int = 150
    longer: tuple[int, ...] = field(default=(7,))
    """Numbers of evaluations beyond N at which the report states the change; the end of the sweep is added."""

    def __post_init__(self) -> None:
        for name, values in (("seeds", self.seeds), ("methods", self.methods), ("steps", self.steps)):
            if not values:
                raise ValueError(f"{name}: expected one at least")
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


@dataclass(frozen=True, kw_only=True)
class Measurement(Followable):
    """A task, and the settings of path independence and of the sweep over evaluations."""

    task: Classify
    measure: Measure


@dataclass(frozen=True)
class Pretrained:
    """Weights that all networks of a seed start from."""

    seed: Seed


@dataclass(frozen=True)
class Trained:
    """A network of the study."""

    method: Method
    steps: int
    seed: Seed

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps: expected at least 1 evaluation, got {self.steps}")

    def variant(self, model: ModelConfig) -> ModelConfig:
        """`model` solved by `steps` evaluations in training, with the gradient of `method`."""
        layer = replace(model.layer, stop=replace(model.layer.stop, max_steps=self.steps), eval_stop=None)
        return replace(model, layer=replace(layer, adjoint=deq.Unrolled()) if self.method == "unrolled" else layer)


def experiment(section: Section, recipe: str) -> Experiment:
    """The experiment with the recipe of that name."""
    parts = (section.load(Classify, "task"), section.load(ModelConfig, "model"), section.load(Recipe, recipe))
    return Experiment(task=parts[0], model=parts[1], recipe=parts[2])


def trained(section: Section, case: Trained) -> Experiment:
    """The experiment of one network."""
    general = experiment(section, "training")
    return replace(general, model=case.variant(general.model))


def fit(job: Job[Any, Experiment]) -> Mapping[str, Any]:
    """Trains a network, from the weights of the job's model if it has one."""
    return train(
        job.settings,
        seed=job.case.seed,
        data=job.data,
        out=job.out,
        scratch=job.scratch,
        log=job.log,
        start=job.model,
    )


def tested(section: Section, case: Trained) -> Measurement:
    """Task and evaluation settings of a network."""
    return Measurement(
        task=section.load(Classify, "task"),
        measure=section.load(Measure, "measure"),
        paths=section.load(VisionPaths, "paths"),
    )


def measure(job: Job[Trained, Measurement]) -> Mapping[str, Any]:
    """The results of `swept`, and under `paths` those of `deq_vision.studies.paths.measure`, with both tables."""
    return {**swept(job), "paths": follow(job)}


def swept(job: Job[Trained, Measurement]) -> dict[str, float]:
    """Measures accuracy, loss and residual after each evaluation of one solve over the whole sweep.

    Returns:
        Values for each split at the number of evaluations in training, `<split>.<metric>`, and at the end of the
        sweep, `<split>.<metric>_last`. The table `steps` has one row per split and evaluation.

    Raises:
        ValueError: the sweep is shorter than the number of evaluations in training.
        ConfigError: the number of classes in the data differs from that of the network's head.
        NonFiniteError: an output for an image is not finite.
    """
    task, config = job.settings.task, job.settings.measure
    torch.set_num_threads(config.threads)
    device, root = distributed.device(config.device), located(job.data)
    network = load(job.network).to(device)
    own = network.equilibrium.stop.max_steps
    if own > config.sweep:
        raise ValueError(f"measure.sweep: expected at least the {own} evaluations of {job.network}, got {config.sweep}")
    for split in config.splits:
        require_head(task, network.size.head, root, split, source=job.network)
    stop = replace(network.equilibrium.stop, max_steps=config.sweep, tol=None)
    metrics: dict[str, float] = {"trained_steps": own}
    for split in config.splits:
        sweep = Sweep(task, stop)
        before = len(job.tables["steps"])
        count = config.training_images if split == "train" else None
        multiple = network.size.multiple
        for batch in batches_in_order(task, root, split, config.batch_size, multiple=multiple, count=count):
            sweep.add(network, batch.to(device))
            job.tables["steps"][before:] = [{"split": split, **row} for row in sweep.rows()]
        for place, ending in ((own, ""), (config.sweep, "_last")):
            row = sweep.rows()[place - 1]
            metrics |= {f"{split}.{key}{ending}": numbers([row], key)[0] for key in row if key != "step"}
    return metrics


PRETRAIN = Stage(
    name="stability.pretrain",
    section="stability",
    case=Pretrained,
    settings=lambda section, case: experiment(section, "pretraining"),
    run=fit,
    trains=True,
    writes=False,
    processes=lambda settings: settings.recipe.processes,
)
TRAIN = replace(PRETRAIN, name="stability.train", case=Trained, settings=trained)
EVALUATE = Stage(name="stability.evaluate", section="stability", case=Trained, settings=tested, run=measure)
