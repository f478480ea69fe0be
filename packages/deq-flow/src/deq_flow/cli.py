"""`deq-flow`: each command loads its parameters, opens a tracked run, and calls one function.

A command takes places (paths) and names (section, method, seed); every number is in params.yaml.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import tyro

from deq_core.experiment import config
from deq_core.experiment.checkpoint import CheckpointError
from deq_core.experiment.config import ConfigError
from deq_core.experiment.files import OutputError, write_json
from deq_core.experiment.resume import DownloadError
from deq_core.experiment.tracking import track
from deq_core.experiment.training import NonFiniteError
from deq_core.experiment.unpack import ArchiveError
from deq_flow.data.io import FileFormatError
from deq_flow.data.layout import LayoutError
from deq_flow.data.mini import MiniConfig, write_mini
from deq_flow.params import Baseline, Evaluate, Flow, Model, Plot, Train

app = tyro.extras.SubcommandApp()

PARAMS = Path("params.yaml")
SECTION = "run.flow"
EXPECTED = (
    ArchiveError,
    CheckpointError,
    ConfigError,
    DownloadError,
    FileFormatError,
    LayoutError,
    NonFiniteError,
    OutputError,
)
"""Errors whose message is all a user needs; any other is a defect and shows its traceback."""


@app.command
def schema(out: Annotated[Path, tyro.conf.Positional]) -> None:
    """Writes the JSON schema of the section `flow` of params.yaml to OUT."""
    write_json(out, config.schema(Flow))


@app.command
def download(
    out: Path = Path("data/flow"), profile: str = "run", params: Path = PARAMS, section: str | None = None
) -> None:
    """Writes the data of a profile below `out`: miniature sets, made from photographs that ship with the packages.

    `profile` is a key of params.yaml, such as mini or smoke; `run` is the one that the pipelines use. For the real
    sets see `deq-flow fetch`.
    """
    section = section or f"{profile}.flow"
    check(params, section)
    write_mini(out, config.load(MiniConfig, params, f"{section}.data"))
    files = [path for path in out.rglob("*") if path.is_file()]
    finish({"files": len(files), "bytes": sum(path.stat().st_size for path in files)})


@app.command
def fetch(name: Annotated[str, tyro.conf.Positional], root: Path = Path("data")) -> None:
    """Downloads the published data set NAME (chairs, things, sintel, kitti, hd1k) to `root`, or says how to get it.

    A broken download is continued. No checksum of these files is published: the first download's is recorded beside
    the archive and asked of every later one.
    """
    from deq_core.experiment.fetch import fetch as fetch_source
    from deq_flow.data.catalogue import SOURCES

    if name not in SOURCES:
        sys.exit(f"deq-flow fetch: expected one of {', '.join(SOURCES)}, got {name!r}")
    fetch_source(SOURCES[name], root)


@app.command
def check_data(
    name: Annotated[str, tyro.conf.Positional], root: Path = Path("data"), released: bool = True, thorough: bool = False
) -> None:
    """Names what is missing or damaged in the data set NAME below `root`; exits with 1 where something is.

    `--no-released` is for a part of a set or a miniature; `--thorough` decodes every file.
    """
    from deq_flow.data import check as checks

    if name not in checks.PARTS:
        sys.exit(f"deq-flow check-data: expected one of {', '.join(checks.PARTS)}, got {name!r}")
    problems = checks.check(name, root, released=released, thorough=thorough)
    for problem in problems:
        print(problem)
    finish({"problems": len(problems)})
    if problems:
        sys.exit(1)


@app.command
def train(
    method: str,
    data: Path,
    out: Path,
    seed: int = 0,
    params: Path = PARAMS,
    section: str = SECTION,
    scratch: Path = Path(".scratch"),
) -> None:
    """Trains the network that `method` names in the section's `model`; writes model.safetensors and history.csv.

    A training that was interrupted resumes from its checkpoint below `scratch`.
    """
    from deq_flow import train as training

    check(params, section)
    model = config.load(Model, params, f"{section}.model.{method}")
    recipe = config.load(Train, params, f"{section}.train")
    parameters = {"method": method, "model": model, "train": recipe}
    folder = scratch / f"flow_train-{method}-{seed}-{fingerprint(parameters, data / 'manifest.json')}"
    with track("flow.train", parameters, out=out, seed=seed, scratch=folder) as log:
        metrics = training.train(model, recipe, seed=seed, data=data, out=out, scratch=folder, log=log)
    for abandoned in scratch.glob(f"flow_train-{method}-{seed}-*"):
        shutil.rmtree(abandoned)
    finish(metrics)


@app.command
def evaluate(model: Path, data: Path, out: Path, params: Path = PARAMS, section: str = SECTION) -> None:
    """Measures the trained network in the folder `model` on every set with ground truth, after every iteration."""
    from deq_flow import evaluate as evaluation

    check(params, section)
    settings = config.load(Evaluate, params, f"{section}.evaluate")
    with track("flow.evaluate", settings, out=out, parent_of=model / "model.safetensors") as log:
        finish(evaluation.evaluate_network(model, settings, data=data, out=out, log=log))


@app.command
def baselines(data: Path, out: Path, params: Path = PARAMS, section: str = SECTION) -> None:
    """Measures zero flow and OpenCV's DIS flow on every set with ground truth."""
    from deq_flow import baselines as peers

    check(params, section)
    settings = config.load(Evaluate, params, f"{section}.evaluate")
    peer_settings = config.load(dict[str, Baseline], params, f"{section}.baselines")
    with track("flow.baselines", {"evaluate": settings, "baselines": peer_settings}, out=out) as log:
        finish(peers.evaluate_baselines(peer_settings, settings, data=data, out=out, log=log))


@app.command
def plot(results: Path, out: Path, params: Path = PARAMS, section: str = SECTION) -> None:
    """Draws the figures from the tables below `results`."""
    from deq_flow import plot as drawing

    check(params, section)
    settings = config.load(Plot, params, f"{section}.plot")
    tables = tables_below(results, params, section)
    with track("flow.plot", settings, out=out):
        paths = drawing.figures(tables, settings, out=out)
    finish({"figures": len(paths)})


@app.command
def report(results: Path, out: Path, params: Path = PARAMS, section: str = SECTION) -> None:
    """Writes report.md and metrics.json, means and standard deviations over seeds, to `out`."""
    from deq_flow import report as reporting

    check(params, section)
    tables = tables_below(results, params, section)
    figures = sorted(path.name for path in (results / "figures").iterdir())
    metrics = reporting.report(tables, figures, out=out)
    finish({f"{method}.epe": values["sintel_clean"]["epe"] for method, values in metrics.items()})


def tables_below(results: Path, params: Path, section: str):
    """The result folders of the methods and seeds of a profile."""
    from deq_flow.tables import Tables

    methods = config.load(tuple[str, ...], params, f"{section}.methods")
    seeds = config.load(tuple[int, ...], params, f"{section}.seeds")
    return Tables.below(results, methods, seeds)


def check(params: Path, section: str) -> None:
    """Stops at any key of the section that is unknown or of a wrong type, whether this command reads it or not."""
    config.check(Flow, params, section)


def fingerprint(parameters: Mapping[str, object], *files: Path) -> str:
    """Digest of what a training depends on, the code included: only a training that is the same may be resumed."""
    digest = hashlib.sha256(json.dumps(config.plain(parameters), sort_keys=True).encode())
    for path in [*sources(), *files]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def sources() -> Sequence[Path]:
    """The source files of this package and of deq_core."""
    import deq_core

    folders = [Path(__file__).parent, Path(deq_core.__file__).parent]
    return [path for folder in folders for path in sorted(folder.rglob("*.py"))]


def finish(values: Mapping[str, float]) -> None:
    """Prints the result as one line of JSON, the last line of every command."""
    print(json.dumps({key: round(value, 6) for key, value in values.items()}))


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of `deq-flow`; `arguments` are those of the command line by default."""
    try:
        app.cli(prog="deq-flow", description="Optical flow with deep equilibrium models.", args=arguments)
    except EXPECTED as error:
        sys.exit(f"deq-flow: {error}")


if __name__ == "__main__":
    main()
