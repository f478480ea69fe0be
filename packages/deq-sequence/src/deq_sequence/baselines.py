"""N-gram baselines on the same tokens: Kneser-Ney models of several orders."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from einops import rearrange

from deq_core.experiment.files import output_directory, write_json
from deq_core.experiment.tables import Row, write_rows
from deq_core.experiment.tracking.run import Log
from deq_sequence.data import tokens as stored
from deq_sequence.data.corpora import Split
from deq_sequence.data.tokens import Tokens
from deq_sequence.evaluate import characters
from deq_sequence.kneser_ney import KneserNey
from deq_sequence.params import Baselines, Evaluate


def evaluate_baselines(
    config: Baselines, texts: Mapping[str, Evaluate], *, data: Path, out: Path, log: Log, split: Split = "test"
) -> dict[str, float]:
    """Measures Kneser-Ney models on every text, by name; writes orders.csv and metrics.json to `out`.

    Each text is measured on the tokens that a model evaluated by its `Evaluate` predicts.
    """
    rows: list[Row] = []
    for name, protocol in texts.items():
        rows += [
            {"text": name, "order": order, **peer(stored.read(data / name), order, protocol.batch_size, split)}
            for order in config.orders
        ]
    metrics = {f"{row['text']}.{row['order']}.perplexity": float(row["perplexity"] or 0) for row in rows}
    log(metrics)
    with output_directory(out) as partial:
        write_rows(partial / "orders.csv", rows)
        write_json(partial / "metrics.json", metrics)
    return metrics


def peer(text: Tokens, order: int, batch_size: int, split: Split) -> dict[str, float]:
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
