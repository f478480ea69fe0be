"""The delta rule (DeltaDEQ, Wang et al., NeurIPS 2024) on language models: perplexity against the work it leaves."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

import deq_core as deq
from deq_core.experiment.files import output_directory, write_json
from deq_core.experiment.progress import Progress
from deq_core.experiment.rescue import rescued, tables
from deq_core.experiment.tables import numbers, write_rows
from deq_core.experiment.tracking.run import Log
from deq_sequence.data import tokens as stored
from deq_sequence.data.batches import windows
from deq_sequence.data.corpora import Split
from deq_sequence.delta_params import Delta, Start
from deq_sequence.delta_trial import Case, Trial
from deq_sequence.evaluate import fitting
from deq_sequence.models.transformer import DEQTransformer


def cases(config: Delta) -> list[Case]:
    """What is measured: of each variant and start, dense solves of some lengths, then the rule's thresholds."""
    found: list[Case] = []
    dense: set[tuple[str, Start]] = set()
    for name, variant in config.variants.items():
        for start in config.starts:
            plain: Start = "previous" if start == "stream" else start  # a dense solve has no memories to keep
            if (str(variant.solver), plain) not in dense:
                dense.add((str(variant.solver), plain))
                stops = [deq.Stop(max_steps=steps, tol=None) for steps in config.dense_steps]
                found += [Case(name, variant.solver, stop, plain) for stop in stops]
            stop, rule = variant.stop.build(), variant.rule
            found += [Case(name, variant.solver, stop, start, rule, threshold) for threshold in rule.thresholds]
    return found


def sweep(model: DEQTransformer, text: Tensor, config: Delta) -> list[Trial]:
    """Every case of `config` on the tokens (N,) of a text, each with a memory of its own."""
    trials = [Trial(model, case, config.skip) for case in cases(config)]
    read_all(trials, text, config)
    return trials


def read_all(trials: Sequence[Trial], text: Tensor, config: Delta) -> None:
    """Has one trial after another read the tokens (N,) of a text.

    Raises:
        NonFiniteError: a prediction of one of them is not finite.
    """
    text = text[: config.tokens]
    with Progress(len(trials)) as progress:
        for number, trial in enumerate(trials, start=1):
            for window in windows(text, length=config.length, batch_size=config.batch_size):
                trial.read(window)
            progress.update(number, {"perplexity": numbers([trial.row()], "perplexity")[0]})


def evaluate_delta(
    model: Path, config: Delta, *, data: Path, out: Path, log: Log, split: Split = "test"
) -> dict[str, float]:
    """Measures the trained model in the folder `model` under the delta rule.

    Writes to `out`: sweep.csv (a row a case), layers.csv, evaluations.csv and metrics.json.

    Returns:
        {"variant.start.threshold.quantity": value} of perplexity and macs_saved.

    Raises:
        NonFiniteError: a prediction is not finite; sweep.csv of what came before is in `out`-partial.
    """
    torch.set_num_threads(config.threads)
    read = stored.read(data / config.text)
    network = fitting(model, read.vocabulary, config)
    trials = [Trial(network, case, config.skip) for case in cases(config)]
    with rescued(out, lambda folder: tables({"sweep": [trial.row() for trial in trials if trial.tokens]})(folder)):
        read_all(trials, read.texts[split], config)
    rows = [trial.row() for trial in trials]
    metrics = named(trials)
    log(metrics)
    with output_directory(out) as partial:
        write_rows(partial / "sweep.csv", rows)
        write_rows(partial / "layers.csv", [row for trial in trials for row in trial.by_layer()])
        write_rows(partial / "evaluations.csv", [row for trial in trials for row in trial.by_evaluation()])
        write_json(partial / "metrics.json", metrics)
    return metrics


def named(trials: Iterable[Trial]) -> dict[str, float]:
    """The main numbers of a sweep under one name each."""
    return {
        f"{trial.case.name}.{key}": numbers([trial.row()], key)[0]
        for trial in trials
        for key in ("perplexity", "macs_saved")
    }
