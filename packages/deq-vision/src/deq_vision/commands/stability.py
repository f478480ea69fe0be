"""Commands of the stability study: networks trained with N evaluations of f, in two ways, and tested with others."""

import shutil
import sys
from pathlib import Path
from typing import Annotated

from deq_core.experiment import config, distributed
from deq_core.experiment.commands import PARAMS, Positional, fingerprint, finish
from deq_core.experiment.files import write_json
from deq_core.experiment.tracking import track
from deq_vision.params import Experiment
from deq_vision.stability_params import Method, Stability

SECTION = "run.stability"
SCRATCH = Path(".scratch")


def stability_schema(out: Annotated[Path, Positional]) -> None:
    """Writes the JSON schema of the section `stability` of params.yaml to OUT."""
    write_json(out, config.schema(Stability))


def stability_pretrain(
    data: Path, out: Path, seed: int = 0, params: Path = PARAMS, section: str = SECTION, scratch: Path = SCRATCH
) -> None:
    """Trains the weights that all networks of a seed start from.

    A training that was interrupted resumes from its checkpoint below `scratch`.
    """
    study: Stability = config.load(Stability, params, section)
    fit("pretraining", study.pretrained(), seed=seed, data=data, out=out, scratch=scratch)


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
    study: Stability = config.load(Stability, params, section)
    try:
        experiment = study.trained(method, steps)
    except ValueError as error:
        raise config.ConfigError(f"{params}: {section}: {error}") from error
    fit(f"{method}-{steps}", experiment, seed=seed, data=data, out=out, scratch=scratch, start=start)


def fit(
    name: str, experiment: Experiment, *, seed: int, data: Path, out: Path, scratch: Path, start: Path | None = None
) -> None:
    """Trains one network, resuming where it was interrupted."""
    from deq_vision import train as training

    distributed.become("deq_vision.cli", sys.argv[1:], experiment.recipe.processes)
    manifest = data / experiment.task.folder / "manifest.json"
    files = [manifest] if manifest.exists() else []  # released sets have none
    files += [] if start is None else [start / "model.safetensors"]
    whole = f"stability-{name}-{seed}"
    folder = scratch / f"{whole}-{fingerprint({'experiment': experiment}, *files, package='deq_vision')}"
    parent = None if start is None else start / "model.safetensors"
    job = "stability.pretrain" if start is None else "stability.train"
    with track(job, experiment, out=out, seed=seed, scratch=folder, parent_of=parent) as log:
        metrics = training.train(experiment, seed=seed, data=data, out=out, scratch=folder, log=log, start=start)
    if distributed.rank() == 0:
        for abandoned in scratch.glob(f"{whole}-*"):
            shutil.rmtree(abandoned)
        finish(metrics)


def stability_evaluate(model: Path, data: Path, out: Path, params: Path = PARAMS, section: str = SECTION) -> None:
    """Measures the network in the folder `model` after every evaluation of a longer solve than it was trained with."""
    from deq_vision import stability

    study: Stability = config.load(Stability, params, section)
    with track("stability.evaluate", study.measure, out=out, parent_of=model / "model.safetensors") as log:
        finish(stability.measure(model, study.task, study.measure, data=data, out=out, log=log))


def stability_plot(results: Path, out: Path, params: Path = PARAMS, section: str = SECTION) -> None:
    """Draws the figures of the study from the tables below `results`."""
    from deq_vision.stability_plot import figures
    from deq_vision.stability_tables import StabilityTables

    study: Stability = config.load(Stability, params, section)
    with track("stability.plot", {"dpi": study.dpi}, out=out):
        paths = figures(StabilityTables.below(results, study), out=out, dpi=study.dpi)
    finish({"figures": len(paths)})


def stability_report(results: Path, out: Path, params: Path = PARAMS, section: str = SECTION) -> None:
    """Writes the report of the study, means and standard deviations over seeds, to `out`."""
    from deq_vision.stability_report import report
    from deq_vision.stability_tables import StabilityTables

    study: Stability = config.load(Stability, params, section)
    images = sorted(path.name for path in (results / "figures").iterdir())
    metrics = report(StabilityTables.below(results, study), images, longer=study.longer, out=out)
    finish(metrics)
