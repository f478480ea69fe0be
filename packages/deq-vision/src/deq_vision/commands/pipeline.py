"""Commands of the pipeline that are no training and no evaluation of a network: peers, figures and report."""

from pathlib import Path
from typing import Annotated

from deq_core.experiment import config
from deq_core.experiment.commands import PARAMS, REPORT, finish
from deq_core.experiment.config.plot import Plot
from deq_core.experiment.study.stages import all_there, figures_below
from deq_core.experiment.tracking.run import track
from deq_vision.baselines.params import Baseline
from deq_vision.params import Evaluate, Task, Vision

SECTION = "vision"


def baselines(experiment: str, data: Path, out: Path, params: Path = PARAMS, section: str = SECTION) -> None:
    """Measures the baselines of the experiment that `experiment` names, on the split that its networks are measured on.

    Writes metrics.json to `out`.
    """
    from deq_vision.baselines import evaluate as peers

    config.check(Vision, params, section)
    task = config.load(Task, params, f"{section}.experiments.{experiment}.task")
    settings = config.load(Evaluate, params, f"{section}.evaluate.{experiment}")
    wanted = config.load(dict[str, Baseline], params, f"{section}.baselines.{experiment}")
    with track("vision.baselines", {"evaluate": settings, "baselines": wanted}, out=out) as log:
        found = peers.evaluate_baselines(wanted, task, settings, data=data, out=out, log=log)
    finish({f"{name}.{key}": value for name, values in found.items() for key, value in values.items()})


def plot(results: Path, out: Path, params: Path = PARAMS, section: str = SECTION) -> None:
    """Draws the figures from the tables below `results`."""
    from deq_vision import plot as drawing

    config.check(Vision, params, section)
    settings = config.load(Plot, params, f"{section}.plot")
    tables = tables_below(results, params, section)
    with track("vision.plot", settings, out=out):
        paths = drawing.figures(tables, settings, out=out)
    finish({"figures": len(paths)})


def vision_report(results: Path, out: Annotated[Path, REPORT], params: Path = PARAMS, section: str = SECTION) -> None:
    """Writes report.md and metrics.json, means and standard deviations over seeds, to `out`."""
    from deq_vision import report as reporting
    from deq_vision.tables import MDEQ, headline

    config.check(Vision, params, section)
    tables = tables_below(results, params, section)
    figures = figures_below(results, "vision")
    found = reporting.report(tables, figures, out=out)["scores"]
    finish({f"{name}.{(metric := headline(methods[MDEQ]))}": methods[MDEQ][metric] for name, methods in found.items()})


def tables_below(results: Path, params: Path, section: str):
    """The result folders of the experiments and seeds of a profile."""
    from deq_vision.tables import Tables

    trained = config.load(tuple[config.Name, ...], params, f"{section}.trained")
    streamed = config.load(tuple[config.Name, ...], params, f"{section}.streamed")
    seeds = config.load(tuple[config.Seed, ...], params, f"{section}.seeds")
    peers = config.load(dict[config.Name, dict[str, Baseline]], params, f"{section}.baselines")
    tables = Tables.below(results, trained=trained, streamed=streamed, baselines=peers, seeds=seeds)
    return all_there(tables, results, "vision")
