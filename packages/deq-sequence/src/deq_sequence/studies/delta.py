"""The delta rule (DeltaDEQ, Wang et al., NeurIPS 2024) on language models: perplexity against remaining work."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from deq_core.experiment import distributed
from deq_core.experiment.config import Name, Once, Seed
from deq_core.experiment.config.delta import Variant
from deq_core.experiment.progress import Progress
from deq_core.experiment.study.delta import RunConfig, sweep_configs
from deq_core.experiment.study.stage import Job, Stage
from deq_core.experiment.tables import Row, numbers
from deq_sequence.data import tokens as stored
from deq_sequence.data.batches import windows
from deq_sequence.networks import load_for
from deq_sequence.studies.delta_trial import Start, Trial


@dataclass(frozen=True, kw_only=True)
class Delta:
    """Settings of the delta study: perplexity against the work that the delta rule leaves (DeltaDEQ, NeurIPS 2024)."""

    text: Name
    """Key of `texts`; that of the training."""
    length: int
    """Number of tokens in a segment."""
    memory: int
    """Number of positions remembered from segment to segment."""
    batch_size: int
    """Number of parallel rows in which the text is read."""
    tokens: int | None = None
    """Number of tokens of the test text, from its start; None for all."""
    validation_tokens: int | None = None
    """Number of tokens of the validation text, on which thresholds and numbers of steps are chosen; None for all."""
    variants: dict[str, Variant]
    """Solvers with the delta rule in their evaluations. A stop with a tolerance continues until all rows are done."""
    steps: Once[int]
    """Numbers of evaluations of the solves at threshold 0, with which thresholds are compared."""
    starts: Once[Start] = ("cold",)
    skip: tuple[str, ...] = ()
    """Layers of the cell that stay dense, such as attention.qkv, attention.output, expand or contract."""
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        if min(self.length, self.batch_size, self.threads) < 1 or self.memory < 0:
            raise ValueError(
                "delta: length, batch_size and threads must be at least 1 and memory at least 0, got "
                f"{self.length}, {self.batch_size}, {self.threads} and {self.memory}"
            )
        if not self.variants or not self.starts:
            raise ValueError("delta: expected at least one variant and one start")
        if any(steps < 1 for steps in self.steps):
            raise ValueError(f"delta: steps must be at least 1 evaluation each, got {list(self.steps)}")
        ways(self)


@dataclass(frozen=True)
class Trained:
    """A model of the pipeline."""

    method: Name
    seed: Seed


def ways(config: Delta) -> list[RunConfig[Start]]:
    """The runs of each solver and start: threshold 0 at several numbers of steps, then the rule's thresholds."""
    return sweep_configs(config.variants, config.steps, config.starts)


def read_all(trials: Sequence[Trial], text: Tensor, config: Delta) -> None:
    """Reads the tokens (N,) of a text with each trial.

    Raises:
        NonFiniteError: a prediction of a trial is not finite.
    """
    with Progress(len(trials)) as progress:
        for number, trial in enumerate(trials, start=1):
            for window in windows(text, length=config.length, batch_size=config.batch_size):
                trial.read(window)
            progress.update(number, {"perplexity": numbers([trial.row()], "perplexity")[0]})


def run(job: Job[Trained, Delta]) -> Mapping[str, float]:
    """Measures a model under the delta rule.

    Tables: `sweep` has one row per split and run, `layers` and `evaluations` have details of each. Rows of the split
    "validation" are for the text on which thresholds are chosen.

    Returns:
        {"variant.start.threshold.steps.quantity": value} for perplexity and macs_saved on the test text.

    Raises:
        CorpusError: a text is too short for its rows, or the model was trained with another vocabulary.
        NonFiniteError: a prediction is not finite; the table `sweep` then covers what was read before.
    """
    config = job.settings
    torch.set_num_threads(config.threads)
    read = stored.read(job.data / config.text)
    texts = {
        "validation": stored.check_rows(read, "valid", config.batch_size, limit=config.validation_tokens),
        "test": stored.check_rows(read, "test", config.batch_size, limit=config.tokens),
    }
    model = load_for(job.network, read.vocabulary, config.text, memory=config.memory)
    model = model.to(distributed.device(config.device))
    trials: list[Trial] = []
    for split, text in texts.items():
        trials = [Trial(model, way, config.skip) for way in ways(config)]
        place: Row = {"split": split}
        try:
            read_all(trials, text, config)
        finally:
            job.tables["sweep"] += [{**place, **trial.row()} for trial in trials if trial.tokens]
        job.tables["layers"] += [{**place, **row} for trial in trials for row in trial.by_layer()]
        job.tables["evaluations"] += [{**place, **row} for trial in trials for row in trial.by_evaluation()]
    return {
        f"{trial.way.name}.{key}": numbers([trial.row()], key)[0]
        for trial in trials
        for key in ("perplexity", "macs_saved")
    }


DELTA = Stage(
    name="sequence.delta",
    section="sequence",
    case=Trained,
    settings=lambda section, case: section.load(Delta, f"delta.{case.method}"),
    run=run,
)
