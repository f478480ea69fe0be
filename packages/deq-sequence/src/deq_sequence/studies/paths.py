"""Path independence of DEQ-Transformers: losses from several initial states and after further evaluations."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from deq_core.experiment import distributed
from deq_core.experiment.checkpoints.checkpoint import CheckpointError
from deq_core.experiment.config import Name, Names, require_keys
from deq_core.experiment.study.measured import Measured
from deq_core.experiment.study.paths import Followed, Paths
from deq_core.experiment.study.problem import Problem, State
from deq_core.experiment.study.stage import Job, Stage
from deq_sequence.data import tokens as stored
from deq_sequence.data.batches import Window
from deq_sequence.data.corpora import Split
from deq_sequence.evaluate import read
from deq_sequence.models.transformer import DEQTransformer, Memory
from deq_sequence.networks import load_for


@dataclass(frozen=True, kw_only=True)
class SequencePaths(Paths):
    """Settings of path independence for a model; a sample is a segment of one of `batch_size` rows of the text.

    Memory is always that of the model's own solves.
    """

    text: Name
    """Key of `texts`; that of the training."""
    split: Split = "test"
    length: int
    """Number of tokens in a segment."""
    memory: int
    """Number of positions remembered from segment to segment."""


@dataclass(frozen=True, kw_only=True)
class PathStudy:
    """The models to measure, with settings for each."""

    methods: Names = ()
    """Trained equilibrium models, keys of `model`."""
    shipped: Names = ()
    """Shipped checkpoints, names in `networks.SHIPPED`."""
    measure: dict[Name, SequencePaths] = field(default_factory=dict)
    """Settings by network."""

    def __post_init__(self) -> None:
        require_keys("methods, shipped", (*self.methods, *self.shipped), "measure", self.measure)


def problems(model: DEQTransformer, text: Tensor, config: SequencePaths) -> Iterator[Problem]:
    """The fixed-point problems of the first segments of every row of the tokens (N,), for as many samples as set."""
    count = 0
    for window, memory, _ in read(model, text, length=config.length, batch_size=config.batch_size):
        if count >= config.samples:
            return
        yield problem(model, window, memory)
        count += config.batch_size


def problem(model: DEQTransformer, window: Window, memory: Memory | None) -> Problem:
    """The fixed-point problem of one segment of every row."""
    device = next(model.parameters()).device
    tokens, targets = window.tokens.to(device), window.targets.to(device)
    segment = model.encode(tokens, memory)
    f = model.map(segment)

    def whole(state: Tensor) -> State:
        return (f(state),)

    return Problem(
        names=[f"row {row}, tokens from {window.begin + 1} on" for row in range(1, len(tokens) + 1)],
        parts=("state",),
        f=whole,
        zero=(model.start(segment),),
        answer=lambda state: model.losses(state, targets),
        distance=lambda one, other: (one - other).abs().mean(1),
        error=lambda losses: losses.mean(1),
    )


def measure(job: Job[Measured, SequencePaths]) -> Mapping[str, Any]:
    """Measures path independence and returns {split: `Followed.summary`}; the tables are those of `Followed.tables`.

    Answers are the losses of tokens, in nats; the distance of two answers is the mean difference over tokens.

    Raises:
        CheckpointError: the model is unrolled.
        CorpusError: the model was trained with another vocabulary.
        NonFiniteError: a loss is not finite.
    """
    config = job.settings
    torch.set_num_threads(config.threads)
    tokens = stored.read(job.data / config.text)
    text = stored.check_rows(tokens, config.split, config.batch_size)
    model = load_for(job.network, tokens.vocabulary, config.text, memory=config.memory).to(
        distributed.device(config.device)
    )
    if model.equilibrium.steps is not None:
        raise CheckpointError(
            f"{job.network}: expected an equilibrium model, got one of {model.equilibrium.steps} steps"
        )
    found = Followed(config)
    with torch.no_grad():
        for each in problems(model, text, config):
            found.add(each)
    job.tables.update(found.tables(set=config.split))
    return {config.split: found.summary()}


PATHS = Stage(
    name="sequence.paths",
    section="sequence",
    case=Measured,
    settings=lambda section, case: section.load(SequencePaths, f"paths.measure.{case.network}"),
    run=measure,
)
