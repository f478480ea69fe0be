"""Operations of the stages that measure in the profile paper, on whole data sets. All of them use one GPU.

Each solve has its maximum number of evaluations, and the delta rule skips nothing. Not counted are the small fits of a
sine and of an image, and what each stage does only once: its example, the first of several repeats.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product

import deq_core as deq
from deq_core.experiment.config.layer import LayerConfig, StopConfig
from deq_core.experiment.study.delta import sweep_configs
from deq_core.experiment.study.paths import STARTS, Paths
from deq_core.experiment.study.training_costs import Costs
from deq_flow.networks import described
from deq_flow.params import EquilibriumModel, Model, UnrolledModel
from deq_flow.studies.delta.section import Delta
from deq_flow.studies.delta.sweep import Extent
from deq_flow.studies.flow import Flow
from deq_flow.studies.paths import FlowPaths
from deq_flow.studies.reuse import Reuse
from deq_sequence.params import Model as Transformer
from deq_sequence.studies.section import Sequence as Language
from deq_vision.data.sets.cifar import SIDE
from deq_vision.params import Classify, Experiment
from deq_vision.studies.section import Vision
from deq_vision.studies.stability import Stability
from workflows.paper.operations import (
    Counted,
    Seen,
    of_flow,
    of_sequence,
    of_vision,
    seen_flow,
    seen_sequence,
    seen_unrolled_flow,
    seen_vision,
)

Size = tuple[int, int]
"""(h, w), pixels."""


@dataclass(frozen=True)
class Videos:
    """Pairs of consecutive frames with ground truth."""

    pairs: int
    videos: int
    size: Size
    """Size of most frames, padded to sides that networks accept."""

    def within(self, extent: Extent) -> int:
        """Number of pairs in `extent`, if all videos are equally long."""
        videos = min(extent.sequences or self.videos, self.videos)
        return round(videos * min(extent.frames or self.pairs, self.pairs / self.videos))


PAIRS = {
    "sintel_clean": Videos(1041, 23, (440, 1024)),
    "sintel_final": Videos(1041, 23, (440, 1024)),
    "kitti": Videos(200, 200, (376, 1248)),
    "chairs": Videos(640, 640, (384, 512)),
    "spring": Videos(4963, 37, (1080, 1920)),
    "hd1k": Videos(1047, 36, (1080, 2560)),
}
"""Sets by the names in `deq_flow.evaluation.sets.SETS`."""
IMAGES: dict[tuple[str, str], tuple[int, Size]] = {
    ("cifar10", "test"): (10_000, (SIDE, SIDE)),
    ("cifar10", "train"): (50_000, (SIDE, SIDE)),
    ("imagenet", "test"): (50_000, (224, 224)),
    ("cityscapes", "val"): (500, (1024, 2048)),
}
"""Number of images in a split, and their size as networks see them; ImageNet's test is its validation split."""
TOKENS = {"valid": 217_646, "test": 245_569}
"""Number of tokens in the splits of WikiText-103."""

Found = Iterator[tuple[str, float]]
"""A stage and the operations of one of its jobs."""


def measured(flow: Flow, delta: Delta, vision: Vision, stability: Stability, language: Language) -> Found:
    """All jobs that measure."""
    yield from of_pairs(flow)
    yield from of_delta(flow, delta)
    yield from of_images(vision)
    yield from of_stability(stability)
    yield from of_text(language)


def of_pairs(flow: Flow) -> Found:
    """Jobs with flow networks."""
    parts = {"": flow, **{f"_{name}": getattr(flow.curriculum, name) for name in ("things", "sintel", "kitti")}}
    for (name, part), _ in product(parts.items(), flow.seeds):
        for method in part.methods:
            yield f"flow_evaluate{name}", evaluated(part.model[method], flow.evaluate.sets, flow.evaluate.sweep)
    for method in flow.reuse.methods * len(flow.seeds):
        yield "flow_reuse", reused(flow.model[method], flow.reuse)
    for name in flow.reuse.shipped:
        yield "flow_reuse_shipped", reused(shipped(name), flow.reuse)
    for method in flow.paths.methods * len(flow.seeds):
        yield "flow_paths", pairs_followed(flow.model[method], flow.paths.measure[method])
    for name in flow.paths.shipped:
        yield "flow_paths_shipped", pairs_followed(shipped(name), flow.paths.measure[name])
    costs = flow.costs
    model = replace(flow.gradients.model, name=costs.name, correction=(), chaining="sliced")
    yield "flow_training_costs", updated(costs, of_flow(model, costs.batch_size, costs.crop))


def shipped(name: str) -> EquilibriumModel:
    """The network of a shipped checkpoint."""
    model = described(name)
    assert isinstance(model, EquilibriumModel)
    return model


def evaluated(model: Model, sets: Iterable[str], sweep: int) -> float:
    """Operations for all pairs of some sets, with a flow after each iteration."""
    steps = max(sweep, iterations(model))
    return sum(PAIRS[name].pairs * of_pair(model, PAIRS[name].size, steps, steps) for name in sets)


def iterations(model: Model) -> int:
    """Maximum number of iterations at test time."""
    if isinstance(model, UnrolledModel):
        return 2 * model.steps
    return (model.layer.eval_stop or model.layer.stop).max_steps


def of_pair(model: Model, size: Size, steps: int, answers: int = 1) -> float:
    """Operations for the flow of a pair, over the scales of a network."""
    sizes = [size] if model.scales is None else model.scales.sizes(*size)
    return sum(seen_pair(model, each).solved(steps, answers) for each in sizes)


def seen_pair(model: Model, size: Size) -> Seen:
    """Operations for a pair at a size, padded."""
    height, width = (-(-side // 8) * 8 for side in size)
    if isinstance(model, UnrolledModel):
        return seen_unrolled_flow(model, (height, width))
    plain = EquilibriumModel(name=model.name, layer=LAYER, head=model.head)  # fewer distinct models to count
    return seen_flow(plain, (height, width))


LAYER = LayerConfig(solver=deq.FixedPointIteration(), stop=StopConfig(max_steps=1), adjoint=deq.Phantom(1))


def reused(model: Model, config: Reuse) -> float:
    """Operations for the pairs of a set from each start, with each budget."""
    pairs, unrolled, total = PAIRS[config.set], isinstance(model, UnrolledModel), 0.0
    for budget in config.budgets.values():
        own = iterations(model)
        steps = (budget.steps or own) if unrolled else own if budget.stop is None else budget.stop.max_steps
        total += pairs.pairs * len(config.starts) * of_pair(model, pairs.size, steps)
    return total


def pairs_followed(model: Model, config: FlowPaths) -> float:
    """Operations for the followed pairs of all sets."""
    kinds = [PAIRS[name] for name in config.sets]
    return sum(min(config.samples, kind.pairs) * followed(config, seen_pair(model, kind.size)) for kind in kinds)


def followed(config: Paths, found: Seen) -> float:
    """Operations for a sample that is followed to its fixed point from several starts, and solved by each setting."""
    solves = len(config.solvers) * (1 + len(STARTS))
    total = solves * (2 * config.evaluations * found.f + len(config.recorded) * found.answer)
    settings = sum(
        len(setting.tolerances) * (setting.evaluations * found.f + found.answer) for setting in config.settings.values()
    )
    return found.before + total + (config.arnoldi + 1) * found.f + settings / config.every


def updated(config: Costs, found: Counted) -> float:
    """Operations of the training steps whose cost is measured: a warm-up and the repeats."""
    every = sum(
        found.solved(LayerConfig(solver=config.solver, stop=StopConfig(max_steps=steps), adjoint=gradient))
        for gradient, steps in product(config.gradients.values(), config.steps)
    )
    return (1 + config.repeats) * every


def of_delta(flow: Flow, delta: Delta) -> Found:
    """Jobs with flow networks under the delta rule."""
    trained = flow.model if delta.stage == "train" else getattr(flow.curriculum, delta.stage).model
    jobs = [("", name, trained[name]) for name in delta.methods * len(delta.method_seeds)]
    jobs += [("_shipped", name, shipped(name)) for name in delta.shipped]
    for ending, name, model in jobs:
        config, total = delta.sweep[name], 0.0
        for source, part in config.sets.items():
            ways = sweep_configs(config.variants, config.steps, part.starts)
            extents = [(source, part), *([] if part.validation is None else [(part.validation.set, part.validation)])]
            for place, extent in extents:
                found = seen_pair(model, PAIRS[place].size)
                solves = sum(way.stop.max_steps * found.f + found.answer for way in ways)
                total += PAIRS[place].within(extent) * (found.before + solves)
        yield f"delta_sweep{ending}", total
        watch, total = delta.convergence[name], 0.0
        for kind in (PAIRS[place] for place in watch.sets):
            pairs = min(watch.pairs or kind.pairs, kind.pairs)
            total += pairs * seen_pair(model, kind.size).solved(watch.steps, watch.steps)
        yield f"delta_convergence{ending}", total


def of_images(vision: Vision) -> Found:
    """Jobs with classifiers and segmentation networks."""
    for name in vision.trained * len(vision.seeds):
        one, config = vision.experiments[name], vision.evaluate[name]
        count, found = split_of(one, config.split)
        solves = found.solved(config.stop.max_steps) + found.solved(config.sweep, config.sweep)
        yield "vision_evaluate", count * solves
    for name in vision.streamed * len(vision.seeds):
        one, stream = vision.experiments[name], vision.stream[name]
        count, found = split_of(one, stream.split)
        steps = [
            stream.converged.max_steps,
            *2 * stream.budgets,
            *(stop.max_steps for stop in stream.adaptive.values()),
        ]
        yield "vision_stream", count * (stream.before + 1 + stream.after) * sum(map(found.solved, steps))
    for name in vision.paths.methods * len(vision.seeds):
        one, config = vision.experiments[name], vision.paths.measure[name]
        count, found = split_of(one, config.split)
        yield "vision_paths", min(count, config.samples) * followed(config, found)
    costs = vision.costs
    yield "vision_training_costs", updated(costs, of_vision(costs.architecture, costs.batch_size, costs.crop))


def split_of(one: Experiment, split: str) -> tuple[int, Seen]:
    """Number of images in a split, and the operations for one."""
    data = one.task.data if isinstance(one.task, Classify) else "cityscapes"
    count, size = IMAGES[data, split]
    return count, seen_vision(one.model.architecture, size)


def of_stability(study: Stability) -> Found:
    """Jobs of the stability study."""
    found = seen_vision(study.model.architecture, (SIDE, SIDE))
    images = sum(IMAGES["cifar10", split][0] for split in study.measure.splits)
    swept = images * found.solved(study.measure.sweep, study.measure.sweep)
    for _ in product(study.methods, study.steps, study.seeds):
        yield "stability_evaluate", swept + study.paths.samples * followed(study.paths, found)


def of_text(language: Language) -> Found:
    """Jobs with language models, without their softmax."""
    for name in language.methods * len(language.seeds):
        model = language.model[name]
        assert model.layer is not None
        config = language.evaluate[name]
        own = (model.layer.eval_stop or model.layer.stop).max_steps
        solves = (own, *len(config.solvers) * [config.sweep])
        yield (
            "sequence_evaluate",
            segments(config.length, TOKENS[config.split]) * of_segment(model, config.length, config.memory, solves),
        )
        delta = language.delta[name]
        ways = [way.stop.max_steps + 1 for way in sweep_configs(delta.variants, delta.steps, delta.starts)]
        tokens = min(delta.validation_tokens or TOKENS["valid"], TOKENS["valid"])
        tokens += min(delta.tokens or TOKENS["test"], TOKENS["test"])
        yield "sequence_delta", segments(delta.length, tokens) * of_segment(model, delta.length, delta.memory, ways)
    for name in language.paths.methods * len(language.seeds):
        paths = language.paths.measure[name]
        found = seen_sequence(replace(language.model[name], memory=paths.memory), paths.length)
        yield "sequence_paths", paths.samples * followed(paths, found)
    costs = language.costs
    assert costs is not None
    layer = LayerConfig(solver=costs.solver, stop=StopConfig(max_steps=1), adjoint=deq.Unrolled())
    model = Transformer(name=costs.name, memory=costs.length, layer=layer)
    yield "sequence_training_costs", updated(costs, of_sequence(model, costs.batch_size, costs.length))


def segments(length: int, tokens: int) -> float:
    """Number of segments of a text, without rounding to whole rows."""
    return tokens / length


def of_segment(model: Transformer, length: int, memory: int, solves: Iterable[int]) -> float:
    """Operations for a segment that is solved several times."""
    found = seen_sequence(replace(model, memory=memory), length)
    return sum(map(found.solved, solves))
