"""Perplexity of models and of n-gram baselines on the same tokens, and what each further evaluation of f gains."""

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
    """How trained models are measured."""

    text: Name
    """Key of `texts`; the training's own."""
    split: Split = "test"
    """Settings are chosen on valid; test is measured once they are."""
    length: int
    """Tokens of a segment."""
    memory: int
    """Positions remembered from segment to segment."""
    batch_size: int
    """Rows that the text is read in, side by side; each begins without memory."""
    stride: int | None = None
    """Tokens from one segment to the next; None is `length`, as released. Less reads tokens again, as context."""
    stop: StopConfig | None = None
    """Stop of the solve that is reported; None is the model's own."""
    sweep: int
    """Perplexity and residual are also measured after each evaluation up to this one."""
    solvers: dict[str, Solver]
    """Solvers of the sweep, by what they are called."""
    sweep_tokens: int | None = None
    """Tokens of the text that the sweep reads; None is all."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Of models; n-grams have none."""
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
    """What n-gram baselines are measured with."""

    baselines: Baselines
    evaluate: dict[Name, Evaluate]
    """By text, how a model is measured on it: the baselines are, on the tokens that it predicts."""


def counting(section: Section, _: Single) -> Counting:
    """Every text that a model is measured on."""
    protocols = section.load(dict[Name, Evaluate], "evaluate").values()
    return Counting(baselines=section.load(Baselines, "baselines"), evaluate={each.text: each for each in protocols})


def evaluate(job: Job[Trained, Evaluate]) -> Mapping[str, float]:
    """Measures a model; the table `steps` has a row a solver and evaluation: step, loss, perplexity, residual.

    Raises:
        CorpusError: the model was trained with another vocabulary.
        NonFiniteError: a prediction is not finite; the tables `steps` and `score` are then of the segments before.
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
    """Measures n-gram models; the table `orders` has a row a text and order."""
    for name, protocol in job.settings.evaluate.items():
        read = stored.read(job.data / name)
        for order in job.settings.baselines.orders:
            found = ngrams(read, order, protocol.batch_size, protocol.split)
            job.tables["orders"].append({"text": name, "order": order, **found})
    return {f"{row['text']}.{row['order']}.perplexity": numbers([row], "perplexity")[0] for row in job.tables["orders"]}


def ngrams(text: Tokens, order: int, batch_size: int, split: Split) -> dict[str, float]:
    """Loss, perplexity and bits per character of one order, on all tokens of `batch_size` rows but each one's first."""
    measured = stored.check_rows(text, split, batch_size)
    counted = KneserNey(text.texts["train"].numpy(), len(text.vocabulary), order)
    width = len(measured) // batch_size
    losses = np.concatenate([[np.nan], counted.losses(measured.numpy())])  # the text's first token is not predicted
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
