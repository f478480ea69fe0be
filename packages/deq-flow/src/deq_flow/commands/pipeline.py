"""Commands of the pipeline: its stages, and the schema that its parameters are checked against."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from deq_core.experiment import config, distributed
from deq_core.experiment.commands import (
    ADDED,
    FILE,
    PARAMS,
    REPORT,
    Positional,
    default,
    fingerprint,
    finish,
    resumable,
)
from deq_core.experiment.config.plot import Plot
from deq_core.experiment.data.registry import ReleasedSets
from deq_core.experiment.files import write_json
from deq_core.experiment.study.stages import all_there, figures_below
from deq_core.experiment.tracking.run import track
from deq_flow.commands.data import fetch
from deq_flow.data.mini.write import write_mini
from deq_flow.data.registry import REGISTRY
from deq_flow.params import Baseline, Data, Evaluate, Flow, Model, Train

SECTION = "flow"


def schema(out: Annotated[Path, Positional, FILE]) -> None:
    """Writes the JSON schema of the section `flow` of params.yaml to OUT."""
    write_json(out, config.schema(Flow))


def download(
    name: Annotated[str, Positional, default("the data of PARAMS")] = "",
    out: Annotated[Path | None, ADDED, default("data/flow; with NAME, data")] = None,
    params: Path = PARAMS,
    section: str = SECTION,
) -> None:
    """Writes the data of `params` below `out`: miniature sets, from photographs in the packages.

    With NAME, downloads that published set to `out`, as `fetch` does.

    With the released sets, what is missing is fetched to where `params` says, and `out` gets a manifest of the files
    there.
    """
    if name:
        fetch(name, Path("data") if out is None else out)
        return
    out = Path("data/flow") if out is None else out
    check(params, section)
    settings: Data = config.load(Data, params, f"{section}.data")
    if isinstance(settings, ReleasedSets):
        REGISTRY.prepare(out, settings)
    else:
        write_mini(out, settings)
    files = [path for path in out.rglob("*") if path.is_file()]
    finish({"files": len(files), "bytes": sum(path.stat().st_size for path in files)})


def train(
    method: str,
    data: Path,
    out: Path,
    seed: int = 0,
    stage: Literal["chairs", "things", "sintel", "kitti"] = "chairs",
    start: Path | None = None,
    params: Path = PARAMS,
    section: str = SECTION,
    scratch: Path = Path(".scratch"),
) -> None:
    """Trains the network that `method` names; writes model.safetensors and history.csv.

    The network and recipe are those of the section's `model` and `train`, or of a later `stage` in its `curriculum`,
    which takes its first weights from the folder `start`, or random ones without it. A training that was interrupted
    resumes from its checkpoint below `scratch`.
    """
    from deq_flow import train as training

    check(params, section)
    place = section if stage == "chairs" else f"{section}.curriculum.{stage}"
    model = config.load(Model, params, f"{place}.model.{method}")
    recipe = config.load(Train, params, f"{place}.train.{method}")
    distributed.become("deq_flow.cli", sys.argv[1:], recipe.processes)
    if stage != "chairs" and start is None and distributed.rank() == 0:
        before = "--start names the folder of the stage before, whose weights the curriculum takes"
        print(f"deq-flow train: {stage} begins from random weights; {before}", file=sys.stderr)
    parameters = {"method": method, "stage": stage, "model": model, "train": recipe}
    first = [] if start is None else [start / "model.safetensors"]
    job = "train" if stage == "chairs" else stage
    name = f"flow_{job}-{method}-{seed}"
    digest = fingerprint(parameters, data / "manifest.json", *first, package="deq_flow")
    with (
        resumable(scratch, name, digest) as folder,
        track(f"flow.{job}", parameters, out=out, seed=seed, scratch=folder) as log,
    ):
        metrics = training.train(model, recipe, seed=seed, data=data, out=out, scratch=folder, log=log, start=start)
    if distributed.rank() == 0:
        finish(metrics)


def evaluate(model: Path, data: Path, out: Path, params: Path = PARAMS, section: str = SECTION) -> None:
    """Measures the trained network in the folder `model` on every set with ground truth, after every iteration."""
    from deq_flow import evaluate as evaluation

    check(params, section)
    settings = config.load(Evaluate, params, f"{section}.evaluate")
    with track("flow.evaluate", settings, out=out, parent_of=model / "model.safetensors") as log:
        finish(evaluation.evaluate_network(model, settings, data=data, out=out, log=log))


def baselines(data: Path, out: Path, params: Path = PARAMS, section: str = SECTION) -> None:
    """Measures zero flow and OpenCV's DIS flow on every set with ground truth."""
    from deq_flow import baselines as peers

    check(params, section)
    settings = config.load(Evaluate, params, f"{section}.evaluate")
    peer_settings = config.load(dict[config.Name, Baseline], params, f"{section}.baselines")
    with track("flow.baselines", {"evaluate": settings, "baselines": peer_settings}, out=out) as log:
        finish(peers.evaluate_baselines(peer_settings, settings, data=data, out=out, log=log))


def plot(results: Path, out: Path, params: Path = PARAMS, section: str = SECTION) -> None:
    """Draws the figures from the tables below `results`."""
    from deq_flow import plot as drawing

    check(params, section)
    settings = config.load(Plot, params, f"{section}.plot")
    tables = tables_below(results, params, section, stages=())
    with track("flow.plot", settings, out=out):
        paths = drawing.figures(tables, settings, out=out)
    finish({"figures": len(paths)})


def report(results: Path, out: Annotated[Path, REPORT], params: Path = PARAMS, section: str = SECTION) -> None:
    """Writes report.md and metrics.json, means and standard deviations over seeds, to `out`."""
    from deq_flow import report as reporting

    check(params, section)
    tables = tables_below(results, params, section)
    figures = figures_below(results, "flow")
    metrics = reporting.report(tables, figures, out=out)
    finish({f"{method}.epe": values["sintel_clean"]["epe"] for method, values in metrics.items()})


def tables_below(results: Path, params: Path, section: str, stages: Sequence[str] = ("things", "sintel", "kitti")):
    """The result folders of the methods and seeds of a section, and of the stages that followed FlyingChairs."""
    from deq_flow.tables import Tables

    methods = config.load(tuple[config.Name, ...], params, f"{section}.methods")
    seeds = config.load(tuple[config.Seed, ...], params, f"{section}.seeds")
    reuse, shipped = (
        config.load(tuple[config.Name, ...], params, f"{section}.reuse.{key}") for key in ("methods", "shipped")
    )
    curriculum = {
        stage: config.load(tuple[config.Name, ...], params, f"{section}.curriculum.{stage}.methods") for stage in stages
    }
    tables = Tables.below(results, methods, seeds, reuse=reuse, shipped=shipped, curriculum=curriculum)
    return all_there(tables, results, "flow")


def check(params: Path, section: str) -> None:
    """Stops at any key of the section that is unknown or of a wrong type, whether this command reads it or not."""
    config.check(Flow, params, section)
