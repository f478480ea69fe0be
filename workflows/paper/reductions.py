"""The reductions of the profile paper for its rehearsal, as one table."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from ruamel.yaml.comments import CommentedMap

from workflows.paper import miniatures

TEXT = f"the texts that are measured have {miniatures.TOKENS} tokens"
MEASURED = "evaluations that are looked at; solves of trainings have theirs"
TRAININGS = (
    "flow.train.*",
    "flow.curriculum.*.train.*",
    "flow.gradients.train",
    "vision.experiments.*.recipe",
    "stability.pretraining",
    "stability.training",
    "sequence.train.*",
)
SHARED = ("flow.train.deq-zoo-b", "vision.experiments.imagenet-small.recipe", "sequence.train.wt103")
"""Trainings with two processes, one in each domain."""
FLOW = ("flow.train.*", "flow.curriculum.*.train.*", "flow.gradients.train")
"""Trainings without a pretraining."""
FOLLOWED = ("vision.paths.measure.imagenet-*", "sequence.paths.measure.*")
"""Measurements of networks with slow evaluations."""


@dataclass(frozen=True)
class Reduction:
    """A smaller value for keys of the profile."""

    places: tuple[str, ...]
    """Dotted keys; `*` stands for one key, `**` for any number of keys."""
    value: Any
    """The smaller value, or a function of the published one."""
    why: str
    added: bool = False
    """Whether the key is added where the profile does not have it."""

    def __str__(self) -> str:
        value = "fewer" if callable(self.value) else self.value
        return f"  {', '.join(self.places)}: {value} ({self.why})"


def everywhere(key: str) -> tuple[str, ...]:
    """The dotted keys for `key` in all trainings."""
    return tuple(f"{training}.{key}" for training in TRAININGS)


def first(count: int) -> Callable[[list[Any]], list[Any]]:
    """The function that takes the first `count` items of a list."""
    return lambda values: values[:count]


REDUCED: tuple[Reduction, ...] = (
    Reduction(everywhere("steps"), 2, "one update unrolled, where there is a pretraining, and one solved"),
    Reduction(tuple(f"{training}.steps" for training in FLOW), 1, "flow has no pretraining"),
    Reduction(everywhere("pretraining.steps"), 1, "see steps"),
    Reduction(("delta.sine.*.steps", "delta.images.steps"), 2, "updates"),
    Reduction(("**.batch_size",), 1, "time and memory of one sample"),
    Reduction(("*.paths.measure.*.batch_size", "stability.paths.batch_size"), 2, "solves begin where others ended"),
    Reduction(everywhere("processes"), 1, "each has a network of its own in memory"),
    Reduction(
        tuple(f"{training}.{key}" for training in SHARED for key in ("processes", "batch_size", "steps")),
        2,
        "one training of each domain, by torchrun",
    ),
    Reduction(
        everywhere("optim.lr"),
        1e-6,
        "at the published rates, which are of batches, an update by one sample can make a network diverge",
    ),
    Reduction(("**.device",), "cpu", "there is no GPU"),
    Reduction(everywhere("precision"), "bfloat16", "float16 needs CUDA"),
    Reduction(everywhere("sync_batch_norm"), False, "it needs CUDA"),
    Reduction(everywhere("jacobian.chance"), 1.0, "the penalty, which few updates have, is rehearsed too"),
    Reduction(
        ("vision.experiments.cityscapes-[lx]*.task.augment.crop",), [256, 512], "the published ones take minutes"
    ),
    Reduction(("**.seeds",), first(1), "seeds repeat the same"),
    Reduction(tuple(f"sequence.{part}.length" for part in ("evaluate.*", "delta.*", "paths.measure.*")), 8, TEXT),
    Reduction(
        tuple(f"{one}.{key}" for one in FOLLOWED for key in ("evaluations", "settings.*.evaluations")), 4, MEASURED
    ),
    Reduction(("delta.sweep.*.steps", "sequence.delta.*.steps"), [4], MEASURED),
    Reduction(("delta.sweep.*.variants.*.stop.max_steps", "sequence.delta.*.variants.*.stop.max_steps"), 4, MEASURED),
    Reduction(("sequence.delta.*.variants.*.rule.thresholds",), first(2), "they repeat the same"),
    Reduction(("*.costs.steps",), first(1), MEASURED),
    Reduction(("*.costs.repeats",), 1, "they repeat the same"),
    Reduction(("delta.images.picture.size",), 64, "pixels"),
    Reduction(("flow.data.complete", "vision.data.complete"), False, "a miniature is no whole release", added=True),
    Reduction(("vision.experiments.imagenet-*.model.architecture.head.classes",), miniatures.CLASSES, "its miniature"),
)


def reduced(published: CommentedMap) -> CommentedMap:
    """Applies `REDUCED` to the profile, in place, and returns it."""
    for reduction in REDUCED:
        for pattern in reduction.places:
            for above, key in found(published, pattern.split("."), added=reduction.added):
                value = reduction.value
                above[key] = value(above[key]) if callable(value) else deepcopy(value)  # no aliases
    return published


def found(value: Any, pattern: Sequence[str], *, added: bool = False) -> list[tuple[Any, Any]]:
    """Mapping and key, or list and index, of each match of a pattern."""
    within = dict(value) if isinstance(value, Mapping) else dict(enumerate(value)) if isinstance(value, list) else {}
    first, *rest = pattern
    if first == "**":
        below = [place for each in within.values() for place in found(each, pattern, added=added)]
        return [*found(value, rest, added=added), *below]
    keys = [key for key in within if fnmatchcase(str(key), first)]
    if not rest:
        return [(value, key) for key in keys or ([first] if added and within else [])]
    return [place for key in keys for place in found(within[key], rest, added=added)]
