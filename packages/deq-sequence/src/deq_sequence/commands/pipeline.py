"""Commands of the pipeline: its stages, and the schema that its parameters are checked against."""

import sys
from pathlib import Path
from typing import Annotated

from deq_core.experiment import config, distributed
from deq_core.experiment.commands import FILE, PARAMS, REPORT, Positional, fingerprint, finish, resumable
from deq_core.experiment.data.manifest import write_manifest
from deq_core.experiment.files import output_directory, write_json
from deq_core.experiment.study.stages import all_there, figures_below
from deq_core.experiment.tracking.run import track
from deq_sequence.data import texts
from deq_sequence.data.corpora import Split
from deq_sequence.params import Baselines, Evaluate, Model, Plot, Sequence, Train

SECTION = "sequence"


def schema(out: Annotated[Path, Positional, FILE]) -> None:
    """Writes the JSON schema of the section `sequence` of params.yaml to OUT."""
    write_json(out, config.schema(Sequence))


def prepare(out: Path = Path("data/sequence"), params: Path = PARAMS, section: str = SECTION) -> None:
    """Learns the vocabulary of each text of a profile and writes the texts as numbers below `out`."""
    check(params, section)
    settings = config.load(dict[config.Name, texts.Text], params, f"{section}.texts")
    with output_directory(out) as partial:
        sizes = {name: texts.prepare(partial / name, text) for name, text in settings.items()}
        write_manifest(partial, settings)
    finish({f"{name}.vocabulary": len(tokens.vocabulary) for name, tokens in sizes.items()})


def train(
    method: str,
    data: Path,
    out: Path,
    seed: int = 0,
    params: Path = PARAMS,
    section: str = SECTION,
    scratch: Path = Path(".scratch"),
) -> None:
    """Trains the model that `method` names on prepared texts; writes model.safetensors and history.csv to `out`.

    A training that was interrupted resumes from its checkpoint below `scratch`.
    """
    from deq_sequence import train as training

    check(params, section)
    model = config.load(Model, params, f"{section}.model.{method}")
    recipe = config.load(Train, params, f"{section}.train.{method}")
    distributed.become("deq_sequence.cli", sys.argv[1:], recipe.processes)
    parameters = {"method": method, "model": model, "train": recipe}
    digest = fingerprint(parameters, data / "manifest.json", package="deq_sequence")
    with (
        resumable(scratch, f"sequence_train-{method}-{seed}", digest) as folder,
        track("sequence.train", parameters, out=out, seed=seed, scratch=folder) as log,
    ):
        metrics = training.train(model, recipe, seed=seed, data=data, out=out, scratch=folder, log=log)
    if distributed.rank() == 0:
        finish(metrics)


def evaluate(
    method: str,
    model: Path,
    data: Path,
    out: Path,
    split: Split = "test",
    params: Path = PARAMS,
    section: str = SECTION,
) -> None:
    """Measures the trained model in the folder `model`, after its solve and after each evaluation of longer ones.

    Settings are chosen on `--split valid`; test is measured once they are.
    """
    from deq_sequence import evaluate as evaluation

    check(params, section)
    settings = config.load(Evaluate, params, f"{section}.evaluate.{method}")
    with track("sequence.evaluate", settings, out=out, parent_of=model / "model.safetensors") as log:
        finish(evaluation.evaluate_model(model, settings, data=data, out=out, log=log, split=split))


def baselines(data: Path, out: Path, split: Split = "test", params: Path = PARAMS, section: str = SECTION) -> None:
    """Measures Kneser-Ney models on every text that a model is measured on."""
    from deq_sequence import baselines as peers

    check(params, section)
    settings = config.load(Baselines, params, f"{section}.baselines")
    protocols = {
        one.text: one for one in config.load(dict[config.Name, Evaluate], params, f"{section}.evaluate").values()
    }
    with track("sequence.baselines", {"baselines": settings, "evaluate": protocols}, out=out) as log:
        finish(peers.evaluate_baselines(settings, protocols, data=data, out=out, log=log, split=split))


def plot(results: Path, out: Path, params: Path = PARAMS, section: str = SECTION) -> None:
    """Draws the figures from the tables below `results`."""
    from deq_sequence import plot as drawing

    check(params, section)
    settings = config.load(Plot, params, f"{section}.plot")
    tables = tables_below(results, params, section)
    with track("sequence.plot", settings, out=out):
        paths = drawing.figures(tables, settings, out=out)
    finish({"figures": len(paths)})


def report(results: Path, out: Annotated[Path, REPORT], params: Path = PARAMS, section: str = SECTION) -> None:
    """Writes report.md and metrics.json, means and standard deviations over seeds, to `out`."""
    from deq_sequence import report as reporting

    check(params, section)
    tables = tables_below(results, params, section)
    figures = figures_below(results, "sequence")
    scores = reporting.report(tables, figures, out=out)["scores"]
    finish({method: values["perplexity"] for by_method in scores.values() for method, values in by_method.items()})


def tables_below(results: Path, params: Path, section: str):
    """The result folders of the methods and seeds of a profile."""
    from deq_sequence.tables import Tables

    methods = config.load(tuple[config.Name, ...], params, f"{section}.methods")
    seeds = config.load(tuple[config.Seed, ...], params, f"{section}.seeds")
    evaluate = config.load(dict[config.Name, Evaluate], params, f"{section}.evaluate")
    return all_there(Tables.below(results, methods, seeds, evaluate), results, "sequence")


def check(params: Path, section: str) -> None:
    """Stops at any key of the section that is unknown or of a wrong type, whether this command reads it or not."""
    config.check(Sequence, params, section)
