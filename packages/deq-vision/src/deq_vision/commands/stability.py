"""Commands of the stability study: networks trained with N evaluations of f, in two ways, and tested with others."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from deq_core.experiment import config, distributed
from deq_core.experiment.commands import FILE, PARAMS, REPORT, Positional, fingerprint, finish, resumable
from deq_core.experiment.files import write_json
from deq_core.experiment.study.stages import figures_below
from deq_core.experiment.tracking.run import track
from deq_vision.config import ModelConfig
from deq_vision.params import Classify, Experiment, Recipe
from deq_vision.stability_params import Measure, Method, Stability, variant

if TYPE_CHECKING:
    from deq_vision.stability_tables import StabilityTables

SECTION = "stability"
SCRATCH = Path(".scratch")


def stability_schema(out: Annotated[Path, Positional, FILE]) -> None:
    """Writes the JSON schema of the section `stability` of params.yaml to OUT."""
    write_json(out, config.schema(Stability))


def stability_pretrain(
    data: Path, out: Path, seed: int = 0, params: Path = PARAMS, section: str = SECTION, scratch: Path = SCRATCH
) -> None:
    """Trains the weights that all networks of a seed start from.

    A training that was interrupted resumes from its checkpoint below `scratch`.
    """
    experiment = loaded(params, section, "pretraining")
    fit("pretraining", experiment, seed=seed, data=data, out=out, scratch=scratch)


def stability_train(
    method: Method,
    steps: int,
    start: Path,
    data: Path,
    out: Path,
    seed: int = 0,
    params: Path = PARAMS,
    section: str = SECTION,
    scratch: Path = SCRATCH,
) -> None:
    """Trains one network with `steps` evaluations of f from the weights in the folder `start`.

    A training that was interrupted resumes from its checkpoint below `scratch`.
    """
    if steps < 1:
        raise config.ConfigError(f"--steps: expected at least 1 evaluation, got {steps}")
    experiment = loaded(params, section, "training")
    experiment = replace(experiment, model=variant(experiment.model, method, steps))
    fit(f"{method}-{steps}", experiment, seed=seed, data=data, out=out, scratch=scratch, start=start)


def loaded(params: Path, section: str, recipe: str) -> Experiment:
    """The training by the recipe of that name. Only what it depends on is read, as DVC records it."""
    config.check(Stability, params, section)
    return Experiment(
        task=config.load(Classify, params, f"{section}.task"),
        model=config.load(ModelConfig, params, f"{section}.model"),
        recipe=config.load(Recipe, params, f"{section}.{recipe}"),
    )


def fit(
    name: str, experiment: Experiment, *, seed: int, data: Path, out: Path, scratch: Path, start: Path | None = None
) -> None:
    """Trains one network, resuming where it was interrupted."""
    from deq_vision import train as training

    distributed.become("deq_vision.cli", sys.argv[1:], experiment.recipe.processes)
    manifest = data / experiment.task.folder / "manifest.json"
    files = [manifest] if manifest.exists() else []  # released sets have none
    files += [] if start is None else [start / "model.safetensors"]
    digest = fingerprint({"experiment": experiment}, *files, package="deq_vision")
    parent = None if start is None else start / "model.safetensors"
    job = "stability.pretrain" if start is None else "stability.train"
    with (
        resumable(scratch, f"stability-{name}-{seed}", digest) as folder,
        track(job, experiment, out=out, seed=seed, scratch=folder, parent_of=parent) as log,
    ):
        metrics = training.train(experiment, seed=seed, data=data, out=out, scratch=folder, log=log, start=start)
    if distributed.rank() == 0:
        finish(metrics)


def stability_evaluate(model: Path, data: Path, out: Path, params: Path = PARAMS, section: str = SECTION) -> None:
    """Measures the network in the folder `model` after every evaluation of a longer solve than it was trained with."""
    from deq_vision import stability

    task = config.load(Classify, params, f"{section}.task")
    settings = config.load(Measure, params, f"{section}.measure")
    with track("stability.evaluate", settings, out=out, parent_of=model / "model.safetensors") as log:
        finish(stability.measure(model, task, settings, data=data, out=out, log=log))


def stability_plot(results: Path, out: Path, params: Path = PARAMS, section: str = SECTION) -> None:
    """Draws the figures of the study from the tables below `results`."""
    from deq_vision.stability_plot import figures

    dpi = config.load(int, params, f"{section}.dpi")
    with track("stability.plot", {"dpi": dpi}, out=out):
        paths = figures(tables_below(results, params, section), out=out, dpi=dpi)
    finish({"figures": len(paths)})


def stability_report(
    results: Path, out: Annotated[Path, REPORT], params: Path = PARAMS, section: str = SECTION
) -> None:
    """Writes the report of the study, means and standard deviations over seeds, to `out`."""
    from deq_vision.stability_report import report

    longer = config.load(tuple[int, ...], params, f"{section}.longer")
    images = figures_below(results, "stability")
    finish(report(tables_below(results, params, section), images, longer=longer, out=out))


def tables_below(results: Path, params: Path, section: str) -> "StabilityTables":
    """The tables of the study below `results`."""
    from deq_vision.stability_tables import StabilityTables

    return StabilityTables.below(
        results,
        methods=config.load(tuple[Method, ...], params, f"{section}.methods"),
        steps=config.load(tuple[int, ...], params, f"{section}.steps"),
        seeds=config.load(tuple[config.Seed, ...], params, f"{section}.seeds"),
        splits=config.load(tuple[str, ...], params, f"{section}.measure.splits"),
    )
