"""Perplexity of models and n-gram baselines on the same tokens, and after each evaluation of f."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from einops import rearrange

from deq_core.experiment import distributed
from deq_core.experiment.config import Name, Seed
from deq_core.experiment.config.layer import Solver, StopConfig
from deq_core.experiment.errors import NonFiniteError
from deq_core.experiment.study.stage import Job, Section, Single, Stage
from deq_core.experiment.tables import numbers
from deq_sequence.baselines.kneser_ney import KneserNey
from deq_sequence.data import tokens as stored
from deq_sequence.data.corpora import Split
from deq_sequence.data.tokens import Tokens
from deq_sequence.evaluate import Measured, Sweep, measure
from deq_sequence.networks import load_for
from deq_sequence.reported import characters, so_far, steps, summary


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Evaluation settings of trained models."""

    text: Name
    """Key of `texts`; that of the training."""
    split: Split = "test"
    """Split to measure: valid to choose settings, test once they are chosen."""
    length: int
    """Number of tokens in a segment."""
    memory: int
    """Number of positions remembered from segment to segment."""
    batch_size: int
    """Number of parallel rows in which the text is read; each starts without memory."""
    stride: int | None = None
    """Number of tokens from one segment to the next; None for `length`, as released. Less repeats some, as context."""
    stop: StopConfig | None = None
    """Stopping rule of the reported solve; None for the model's own."""
    sweep: int
    """Number of evaluations after each of which perplexity and residual are also measured."""
    solvers: dict[str, Solver]
    """Solvers of the sweep by name."""
    sweep_tokens: int | None = None
    """Number of tokens of the text that the sweep reads; None for all."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Device of models; n-grams run on the CPU."""
    threads: int = 1

    def __post_init__(self) -> None:
        if min(self.length, self.batch_size, self.sweep, self.threads) < 1 or self.memory < 0:
            raise ValueError(
                "evaluate: length, batch_size, sweep and threads must be at least 1 and memory at least 0, got "
                f"{self.length}, {self.batch_size}, {self.sweep}, {self.threads} and {self.memory}"
            )
        if self.stride is not None and not 1 <= self.stride <= self.length:
            raise ValueError(f"evaluate: stride must be from 1 to length = {self.length}, got {self.stride}")


@dataclass(frozen=True, kw_only=True)
class Baselines:
    """Kneser-Ney language models of several orders, on every text."""

    orders: tuple[int, ...] = (1, 2, 3)


@dataclass(frozen=True)
class Trained:
    """A model of the pipeline."""

    method: Name
    seed: Seed


@dataclass(frozen=True, kw_only=True)
class Counting:
    """Settings of the n-gram baselines."""

    baselines: Baselines
    evaluate: dict[Name, Evaluate]
    """Evaluation settings of a model on each text; the baselines are measured on the tokens that it predicts."""


def counting(section: Section, _: Single) -> Counting:
    """Settings for every text that a model is measured on."""
    protocols = section.load(dict[Name, Evaluate], "evaluate").values()
    return Counting(baselines=section.load(Baselines, "baselines"), evaluate={each.text: each for each in protocols})


def evaluate(job: Job[Trained, Evaluate]) -> Mapping[str, float]:
    """Measures a model; the table `steps` has one row per solver and evaluation: step, loss, perplexity, residual.

    Raises:
        CorpusError: the model was trained with another vocabulary.
        NonFiniteError: a prediction is not finite; the tables `steps` and `score` then cover the segments before it.
    """
    config = job.settings
    torch.set_num_threads(config.threads)
    read = stored.read(job.data / config.text)
    text = stored.check_rows(read, config.split, config.batch_size)
    choices = {} if config.stop is None else {"eval_stop": config.stop.build()}
    model = load_for(job.network, read.vocabulary, config.text, memory=config.memory, **choices)
    model = model.to(distributed.device(config.device))
    found = Measured()
    try:
        measure(
            model,
            text,
            length=config.length,
            batch_size=config.batch_size,
            stride=config.stride,
            sweep=Sweep(solvers=config.solvers, evaluations=config.sweep, tokens=config.sweep_tokens),
            found=found,
        )
    except NonFiniteError:
        job.tables["score"] = so_far(found.score)
        raise
    finally:
        job.tables["steps"] = steps(found)
    for row in job.tables["steps"]:
        values = {f"{row['solver']}/{key}": numbers([row], key)[0] for key in ("perplexity", "residual")}
        job.log(values, int(numbers([row], "step")[0]))
    return summary(found.score, characters(text, read.vocabulary, config.batch_size))


def count(job: Job[Single, Counting]) -> Mapping[str, float]:
    """Measures n-gram models; the table `orders` has one row per text and order."""
    for name, protocol in job.settings.evaluate.items():
        read = stored.read(job.data / name)
        for order in job.settings.baselines.orders:
            found = ngrams(read, order, protocol.batch_size, protocol.split)
            job.tables["orders"].append({"text": name, "order": order, **found})
    return {f"{row['text']}.{row['order']}.perplexity": numbers([row], "perplexity")[0] for row in job.tables["orders"]}


def ngrams(text: Tokens, order: int, batch_size: int, split: Split) -> dict[str, float]:
    """Loss, perplexity and bits per character of one order, on all tokens of `batch_size` rows except their first."""
    measured = stored.check_rows(text, split, batch_size)
    counted = KneserNey(text.texts["train"].numpy(), len(text.vocabulary), order)
    width = len(measured) // batch_size
    losses = np.concatenate([[np.nan], counted.losses(measured.numpy())])  # the first token is not predicted
    rows = rearrange(losses[: batch_size * width], "(row t) -> row t", row=batch_size)[:, 1:]
    return {
        "loss": float(rows.mean()),
        "perplexity": math.exp(rows.mean()),
        "bits_per_character": float(rows.sum()) / math.log(2) / characters(measured, text.vocabulary, batch_size),
    }


EVALUATE = Stage(
    name="sequence.evaluate",
    section="sequence",
    case=Trained,
    settings=lambda section, case: section.load(Evaluate, f"evaluate.{case.method}"),
    run=evaluate,
)
BASELINES = Stage(name="sequence.baselines", section="sequence", case=Single, settings=counting, run=count)
