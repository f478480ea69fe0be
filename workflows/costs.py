"""Estimates the cost of the stages of the profile paper: `python -m workflows.costs [--tflops N] [--write]`.

Networks run on fake tensors, in training at the size of their crops and in evaluation at that of the data. Counted are
the floating-point operations of convolutions and matrix products, forward and backward. Each solve has its maximum
number of evaluations; one that reaches its tolerance earlier takes fewer. Not counted are the adaptive softmax, the
Jacobian penalty, the algebra of solvers, evaluations during training, and what has no operations: loading of data,
communication between GPUs.
"""

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import starmap
from pathlib import Path

from benchmarks.core.pages import markdown, with_table

import deq_core as deq
from deq_core.experiment import config
from deq_core.experiment.config.recipe import EquilibriumRecipe, Recipe
from deq_core.experiment.data.registry import ReleasedSets
from deq_core.experiment.files import write_text
from deq_flow.data.registry import REGISTRY as FLOW
from deq_flow.params import EquilibriumModel, UnrolledModel
from deq_flow.params import Train as FlowRecipe
from deq_flow.studies.delta.section import Delta
from deq_flow.studies.flow import Flow
from deq_flow.studies.gradients import Gradient, GradientStudy
from deq_sequence.data.registry import REGISTRY as LANGUAGE
from deq_sequence.data.texts import Published
from deq_sequence.params import Model as Transformer
from deq_sequence.params import Train as SequenceRecipe
from deq_sequence.studies.section import Sequence as Language
from deq_vision.data.registry import REGISTRY as VISION
from deq_vision.data.scenes import SceneAugment
from deq_vision.data.sets.cifar import SIDE
from deq_vision.data.transforms import ResizedCrop
from deq_vision.params import Experiment
from deq_vision.studies.section import Vision
from deq_vision.studies.stability import Stability, Trained
from workflows.paper.measurements import evaluated, measured
from workflows.paper.operations import Counted, of_flow, of_sequence, of_unrolled_flow, of_vision

PAPER = Path(__file__).parent / "profiles" / "paper.yaml"
PAGE = Path(__file__).parents[1] / "docs" / "cluster.md"
TABLE, SETS = "costs of stages", "sizes of data sets"
"""Names of the tables on the page."""
TFLOPS = 40.0
BYTES = 4
"""Bytes of a number in a checkpoint."""
STATES = {"adam": 2, "adamw": 2, "sgd": 1}
"""Numbers that an optimiser keeps for each weight."""


@dataclass(frozen=True)
class Cost:
    """The cost of one job."""

    stage: str
    operations: float
    gpus: int = 1
    weights: int = 0
    """Number of weights of the network it trains."""
    kept: int = 0
    """Number of values in the checkpoint of an unfinished training."""


def stages() -> Iterator[Cost]:
    """The costs of all jobs of the profile that need a GPU, except the small fits of an image."""
    flow: Flow = config.check(Flow, PAPER, "flow")
    vision: Vision = config.check(Vision, PAPER, "vision")
    stability: Stability = config.check(Stability, PAPER, "stability")
    language: Language = config.check(Language, PAPER, "sequence")
    yield from trainings(flow, vision, stability, language)
    delta: Delta = config.check(Delta, PAPER, "delta")
    yield from starmap(Cost, measured(flow, delta, vision, stability, language))


def trainings(flow: Flow, vision: Vision, study: Stability, language: Language) -> Iterator[Cost]:
    """The costs of all trainings."""
    later = {f"flow_{name}": getattr(flow.curriculum, name) for name in ("things", "sintel", "kitti")}
    for stage, part in {"flow_train": flow, **later}.items():
        for method in part.methods:
            yield from [flow_cost(stage, part.model[method], part.train[method])] * len(flow.seeds)
    for name in flow.gradients.methods:
        yield gradients_cost(flow.gradients, flow.gradients.gradient[name])
    continued = tuple(pair.experiment for pair in vision.continued)
    for stage, names in (("vision_train", vision.fresh), ("vision_continue", continued)):
        for name in names:
            yield from [vision_cost(stage, vision.experiments[name])] * len(vision.seeds)
    one = Experiment(task=study.task, model=study.model, recipe=study.pretraining)
    yield from [vision_cost("stability_pretrain", one)] * len(study.seeds)
    for method in study.methods:
        for steps in study.steps:
            one = Experiment(
                task=study.task, model=Trained(method, steps, 0).variant(study.model), recipe=study.training
            )
            yield from [vision_cost("stability_train", one)] * len(study.seeds)
    for method in language.methods:
        yield from [sequence_cost(language.model[method], language.train[method])] * len(language.seeds)


def flow_cost(stage: str, model: EquilibriumModel | UnrolledModel, recipe: FlowRecipe) -> Cost:
    """The cost of training a flow network."""
    shape = recipe.micro_batch, recipe.mix[0].augment.crop
    if isinstance(model, UnrolledModel):
        each, weights = of_unrolled_flow(model, *shape)
    else:
        found = of_flow(model, *shape)
        each, weights = found.solved(model.layer, 1 + len(model.correction)), found.weights
    return cost(stage, recipe, weights, recipe.steps * each)


def gradients_cost(study: GradientStudy, gradient: Gradient) -> Cost:
    """The cost of one job that trains and measures the networks of a gradient, with and without corrections."""
    recipe, through = study.train, gradient.corrected
    assert isinstance(through, deq.Phantom)
    found = of_flow(study.model, recipe.micro_batch, recipe.mix[0].augment.crop)
    last = found.solved(replace(study.model.layer, adjoint=gradient.last))
    corrections = len(study.model.correction) * (through.steps * (found.f + found.back) + found.prediction)
    made = cost("flow_gradients", recipe, found.weights, recipe.steps * (2 * last + corrections))
    tested = 2 * evaluated(study.model, study.measure.sets, study.measure.sweep)
    return replace(made, operations=len(study.seeds) * (made.operations + tested), weights=0)


def vision_cost(stage: str, one: Experiment) -> Cost:
    """The cost of training a classifier or a segmentation network."""
    augment = one.task.augment
    size = augment.crop if isinstance(augment, SceneAugment) else (SIDE, SIDE)
    if isinstance(augment, ResizedCrop):
        size = augment.size, augment.size
    assert size is not None
    found = of_vision(one.model.architecture, one.recipe.micro_batch, size)
    return cost(stage, one.recipe, found.weights, pretrained(found, one.recipe, found.solved(one.model.layer)))


def sequence_cost(model: Transformer, recipe: SequenceRecipe) -> Cost:
    """The cost of training a language model."""
    found = of_sequence(model, recipe.micro_batch, recipe.length)
    assert model.layer is not None
    return cost("sequence_train", recipe, found.weights, pretrained(found, recipe, found.solved(model.layer)))


def pretrained(found: Counted, recipe: EquilibriumRecipe, solved: float) -> float:
    """Operations of all updates: unrolled ones at their mean depth, and others that take `solved` each."""
    first = 0.0 if recipe.pretraining is None else found.unrolled(sum(recipe.pretraining.depth) / 2)
    count = min(recipe.unrolled_updates, recipe.steps)
    return count * first + (recipe.steps - count) * solved


def cost(stage: str, recipe: Recipe, weights: int, each: float) -> Cost:
    """The cost of a training, from the operations `each` of one micro-batch over all updates."""
    kept = (1 + STATES[recipe.optim.name]) * weights
    return Cost(stage, recipe.batches * each, recipe.processes, weights, kept)


def row(stage: str, costs: Sequence[Cost], tflops: float) -> list[str]:
    """A row of the table, for all jobs of a stage."""
    hours = [one.operations / (tflops * 1e12 * 3600) for one in costs]
    numbers = (
        sum(one.operations for one in costs) / 1e18,
        sum(hours),
        max(hour / one.gpus for hour, one in zip(hours, costs, strict=True)),
        sum(one.weights for one in costs) * BYTES / 1e9,
        max(one.kept for one in costs) * BYTES / 1e9,
    )
    gpus = "/".join(map(str, sorted({one.gpus for one in costs})))
    return [f"`{stage}`", str(len(costs)), gpus, *map(shown, numbers)]


def shown(number: float) -> str:
    """A number with two significant digits, as an integer from 100 on, and as "< 0.001" below 0.001 except for 0."""
    if 0 < number < 0.001:
        return "< 0.001"
    return f"{number:.0f}" if number >= 100 else f"{number:.2g}"


def table(costs: Sequence[Cost], tflops: float = TFLOPS) -> str:
    """The table with a row for each stage."""
    header = [
        "stage",
        "jobs",
        "GPUs of each",
        "EFLOP",
        f"GPU-hours at {tflops:g} TFLOP/s",
        "hours of the longest",
        "GB of networks",
        "GB of a checkpoint",
    ]
    of_stage = {
        stage: [one for one in costs if one.stage == stage] for stage in dict.fromkeys(one.stage for one in costs)
    }
    return markdown(header, [row(stage, some, tflops) for stage, some in of_stage.items()])


def sizes() -> str:
    """The table of published data sets in the profile, with the sizes of archives that their sources state."""
    flow: Flow = config.check(Flow, PAPER, "flow")
    vision: Vision = config.check(Vision, PAPER, "vision")
    language: Language = config.check(Language, PAPER, "sequence")
    assert isinstance(flow.data, ReleasedSets)
    assert isinstance(vision.data, ReleasedSets)
    corpora = [text.corpus for text in language.texts.values()]
    sources = [
        *(FLOW.sets[name].source for name in flow.data.sets),
        *(VISION.sets[name].source for name in vision.data.sets),
        *(LANGUAGE.sets[corpus.name].source for corpus in corpora if isinstance(corpus, Published)),
    ]
    said = {source.title: re.findall(r"\d[\d.]* [GM]B", f"{source.licence} {source.manual}") for source in sources}
    return markdown(["set", "packed"], [[title, ", ".join(found) or "unknown"] for title, found in said.items()])


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the tables, and writes them into their page with --write."""
    parser = argparse.ArgumentParser(prog="python -m workflows.costs", description=__doc__)
    parser.add_argument(
        "--tflops", type=float, default=TFLOPS, help="10^12 operations per second that a GPU sustains (%(default)s)"
    )
    parser.add_argument("--write", action="store_true", help=f"write the tables into docs/{PAGE.name} as well")
    options = parser.parse_args(arguments)
    made = {TABLE: table(list(stages()), options.tflops), SETS: sizes()}
    print(*made.values(), sep="\n\n")
    for name in made if options.write else ():
        write_text(PAGE, with_table(PAGE.read_text(), name, made[name]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
