"""The command that evaluates a network on a text; studies evaluate those of the pipeline."""

from pathlib import Path
from typing import Annotated

from torch import Tensor

from deq_core.experiment.commands import Positional, default, finish
from deq_core.experiment.config import ConfigError
from deq_core.experiment.device import chosen_device
from deq_core.experiment.files import output_directory, write_json
from deq_core.experiment.rescue import rescued, tables
from deq_core.experiment.tables import write_rows
from deq_core.experiment.tracking.run import track
from deq_sequence.data import texts
from deq_sequence.data import tokens as stored
from deq_sequence.data.corpora import CorpusError, Split
from deq_sequence.data.vocabulary import Vocabulary
from deq_sequence.evaluate import Measured, Sweep, measure
from deq_sequence.models.transformer import DEQTransformer
from deq_sequence.networks import file_of, load, load_for, load_vocabulary
from deq_sequence.reported import characters, so_far, steps, summary


def evaluate(
    checkpoint: Annotated[str, Positional],
    *,
    data: Path,
    out: Path,
    text: Annotated[str | None, default("text")] = None,
    split: Annotated[Split | None, default("valid")] = None,
    length: Annotated[int | None, default("as many as the network remembers")] = None,
    batch_size: int = 1,
    device: str = "auto",
) -> None:
    """Evaluates CHECKPOINT on DATA, a text file or a folder of prepared texts.

    OUT gets metrics.json (perplexity, bits per character, residual, evaluations of f), of the network's own solve, and
    steps.csv with a row for each evaluation of f. A text file is measured whole, tokenised with the network's
    vocabulary; an unknown character or word is an error that names it.

    Args:
        checkpoint: a shipped name, a folder written by training, a weights file (.safetensors), or a released file.
        data: a UTF-8 text file; or a folder written by `download`.
        out: a new folder, or the unchanged output of an earlier evaluation, which is replaced.
        text: which text of a folder, by its name; it must have been prepared with the network's vocabulary.
        split: which part of that text: train, valid or test.
        length: tokens of a segment. Each is read with what the network remembers of those before it.
        batch_size: rows that the text is cut into and read in side by side; each begins without memory.
        device: auto (a GPU if available), cpu, cuda or cuda:N.
    """
    model, vocabulary, tokens = opened(checkpoint, data, text, split)
    model = model.to(chosen_device(device))
    own = model.equilibrium
    length = own.memory if length is None else length
    if min(length, batch_size) < 1:
        raise ConfigError(f"expected a length and batch_size of at least 1, got {length} and {batch_size}")
    if len(tokens) // batch_size <= length:
        raise CorpusError(
            f"{data}: {len(tokens)} tokens are too few for {batch_size} rows of a segment of {length} tokens and the "
            "one after it; choose a longer text, a smaller --length, or fewer rows (--batch-size)"
        )
    evaluations = (own.eval_stop or own.stop).max_steps if own.steps is None else own.steps
    sweep = Sweep(solvers={"own": own.solver}, evaluations=evaluations)
    said = {"text": text, "split": split, "length": length, "batch_size": batch_size, "evaluations": evaluations}
    found = Measured()
    with (
        track(
            "sequence.evaluate",
            said,
            out=out,
            case={"checkpoint": checkpoint, "data": str(data)},
            parent_of=file_of(checkpoint),
            inputs=[data] if data.is_file() else [],
            data=[] if data.is_file() else [data / "manifest.json"],
        ) as log,
        rescued(out, lambda folder: tables({"score": so_far(found.score), "steps": steps(found)})(folder)),
    ):
        measure(model, tokens, length=length, batch_size=batch_size, sweep=sweep, found=found)
        metrics = summary(found.score, characters(tokens, vocabulary, batch_size))
        log(metrics)
        with output_directory(out) as partial:
            write_json(partial / "metrics.json", metrics)
            write_rows(partial / "steps.csv", steps(found))
    finish(metrics)


def opened(
    checkpoint: str, data: Path, text: str | None, split: Split | None
) -> tuple[DEQTransformer, Vocabulary, Tensor]:
    """Loads a network, its vocabulary, and the tokens (N,) of the text to evaluate on.

    Raises:
        ConfigError: the text does not exist, or a text or split was named although `data` is a file.
        CheckpointError: the network does not exist, or has no vocabulary to read a file with.
        CorpusError: the text is damaged, or the vocabulary lacks a part of it.
    """
    if not data.exists():
        raise ConfigError(f"{data}: no such file or folder; name a text file, or a folder that `download` wrote")
    if data.is_file():
        if text is not None or split is not None:
            raise ConfigError(
                "text, split: only for a folder of prepared texts; a text file is measured whole, so leave them out"
            )
        model = load(checkpoint)
        vocabulary = load_vocabulary(checkpoint, model)
        return model, vocabulary, texts.numbered(data, vocabulary)
    text, split = text or "text", split or "valid"
    read = stored.read(data / text)
    return load_for(checkpoint, read.vocabulary, text), read.vocabulary, read.texts[split]
