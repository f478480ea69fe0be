"""Evaluation of one model: perplexity of the test text, and perplexity and residual after every evaluation."""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from deq_core.experiment.files import output_directory, write_json
from deq_core.experiment.rescue import rescued, tables
from deq_core.experiment.tables import Row, write_rows
from deq_core.experiment.tracking.run import Log
from deq_sequence.data import tokens as stored
from deq_sequence.data import vocabulary as vocabularies
from deq_sequence.data.corpora import CorpusError, Split
from deq_sequence.data.vocabulary import Vocabulary
from deq_sequence.delta_params import Delta
from deq_sequence.measure import Measured, Score, Sweep, measure
from deq_sequence.models.transformer import DEQTransformer
from deq_sequence.networks import VOCABULARY, load, located
from deq_sequence.params import Evaluate


def evaluate_model(
    model: Path, config: Evaluate, *, data: Path, out: Path, log: Log, split: Split = "test"
) -> dict[str, float]:
    """Measures the trained model in `model`, a checkpoint or its folder; writes steps.csv and metrics.json to `out`.

    Raises:
        NonFiniteError: a prediction is not finite; steps.csv and score.csv of what came before are in `out`-partial.
    """
    torch.set_num_threads(config.threads)
    read = stored.read(data / config.text)
    text = stored.check_rows(read, split, config.batch_size)
    found = Measured()
    with rescued(out, tables_so_far(found)):
        evaluate(fitting(model, read.vocabulary, config), text, config, found)
    rows = steps(found)
    for row in rows:
        name = str(row["solver"])
        values = {f"{name}/{key}": float(row[key]) for key in ("perplexity", "residual")}  # pyright: ignore[reportArgumentType]  numbers
        log(values, int(row["step"]))  # pyright: ignore[reportArgumentType]  a number
    metrics = summary(found.score, characters(text, read.vocabulary, config.batch_size))
    log(metrics)
    with output_directory(out) as partial:
        write_rows(partial / "steps.csv", rows)
        write_json(partial / "metrics.json", metrics)
    return metrics


def fitting(path: Path, vocabulary: Vocabulary, config: Evaluate | Delta) -> DEQTransformer:
    """The model of a checkpoint, to be measured as `config` says on a text with this vocabulary.

    Raises CorpusError where it was trained with another one; a released file says its size alone.
    """
    model = load(path, memory=config.memory)
    if isinstance(config, Evaluate) and config.stop is not None:
        model.equilibrium = replace(model.equilibrium, eval_stop=config.stop.build())
    own = located(path).with_name(VOCABULARY)
    if model.size.vocabulary != len(vocabulary) or (
        own.exists() and vocabularies.load(own).state() != vocabulary.state()
    ):
        raise CorpusError(
            f"{path}: made for other tokens ({model.size.vocabulary} different ones) than those of the text "
            f"{config.text} ({len(vocabulary)}); prepare the text that it was trained on"
        )
    return model


def evaluate(model: DEQTransformer, text: Tensor, config: Evaluate, found: Measured | None = None) -> Measured:
    """Measures a model on a text as `config` says; `found` as in `measure`."""
    sweep = Sweep(solvers=config.solvers, evaluations=config.sweep, tokens=config.sweep_tokens)
    return measure(
        model,
        text,
        length=config.length,
        batch_size=config.batch_size,
        stride=config.stride,
        sweep=sweep,
        found=found,
    )


def tables_so_far(found: Measured) -> Callable[[Path], None]:
    """What `rescued` writes: the score and the sweep of the segments before."""

    def write(folder: Path) -> None:
        score = found.score
        if score.tokens:
            columns = {"tokens": score.tokens, "loss": score.loss, "residual": score.residual}
            tables({"score": [columns], "steps": steps(found)})(folder)

    return write


def steps(found: Measured) -> list[Row]:
    """One row a solver and evaluation: step, loss, perplexity, residual."""
    return [
        {
            "solver": solver,
            "step": step,
            "loss": point.loss,
            "perplexity": point.perplexity,
            "residual": point.residual,
        }
        for solver, points in found.sweep.items()
        for step, point in enumerate(points, start=1)
        if point.tokens
    ]


def summary(score: Score, characters: int) -> dict[str, float]:
    """What a model, or a peer, is reported by."""
    return {
        "loss": score.loss,
        "perplexity": score.perplexity,
        "bits_per_character": score.nats / math.log(2) / characters,
        "tokens": score.tokens,
        "characters": characters,
        "residual": score.residual,
        "steps": score.steps / score.solves,
        "converged": score.converged / score.solves,
    }


def characters(text: Tensor, vocabulary: Vocabulary, batch_size: int) -> int:
    """Characters of the tokens that are predicted: those of every row but its first."""
    width = len(text) // batch_size
    rows: Iterable[Tensor] = rearrange(text[: batch_size * width], "(row t) -> row t", row=batch_size)[:, 1:]
    return sum(len(vocabulary.decode(row.tolist())) for row in rows)
