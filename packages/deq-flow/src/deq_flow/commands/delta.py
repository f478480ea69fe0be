"""Commands of the delta studies: what of an equilibrium solve can be skipped, and when its parts settle."""

from pathlib import Path
from typing import Annotated

from deq_core.experiment import config
from deq_core.experiment.commands import FILE, PARAMS, REPORT, Positional, fingerprint, finish, resumable
from deq_core.experiment.files import write_json
from deq_core.experiment.study.stages import all_there, figures_below
from deq_core.experiment.tracking.run import track
from deq_flow.delta_params import Convergence, Delta, Images, Representation, Sine, Sweep

SECTION = "delta"


def delta_schema(out: Annotated[Path, Positional, FILE]) -> None:
    """Writes the JSON schema of the section `delta` of params.yaml to OUT."""
    write_json(out, config.schema(Delta))


def delta(network: str, model: Path, data: Path, out: Path, params: Path = PARAMS, section: str = SECTION) -> None:
    """Measures an equilibrium network under the delta rule: error against the work left.

    It is in the folder `model`; `network` is its name in the section's `sweep`.
    """
    from deq_flow.delta import evaluate_delta

    check(params, section)
    settings = config.load(Sweep, params, f"{section}.sweep.{network}")
    with track("delta.sweep", settings, out=out, parent_of=model / "model.safetensors") as log:
        finish(evaluate_delta(model, settings, data=data, out=out, log=log))


def convergence(
    network: str, model: Path, data: Path, out: Path, params: Path = PARAMS, section: str = SECTION
) -> None:
    """Watches when the elements of the state of an equilibrium network settle.

    It is in the folder `model`; `network` is its name in the section's `convergence`.
    """
    from deq_flow.convergence import watch_convergence

    check(params, section)
    settings = config.load(Convergence, params, f"{section}.convergence.{network}")
    with track("delta.convergence", settings, out=out, parent_of=model / "model.safetensors") as log:
        finish(watch_convergence(model, settings, data=data, out=out, log=log))


def sine(
    fit: str,
    out: Path,
    seed: int = 0,
    params: Path = PARAMS,
    section: str = SECTION,
    scratch: Path = Path(".scratch"),
) -> None:
    """Fits the sine that `fit` names in the section's `sine`, and studies how its units settle.

    A training that was interrupted resumes from its checkpoint below `scratch`.
    """
    from deq_flow.inr.sine import fit_sine

    check(params, section)
    settings = config.load(Sine, params, f"{section}.sine.{fit}")
    digest = fingerprint({"fit": settings}, package="deq_flow")
    with (
        resumable(scratch, f"delta_sine-{fit}-{seed}", digest) as folder,
        track("delta.sine", settings, out=out, seed=seed, scratch=folder) as log,
    ):
        metrics = fit_sine(settings, seed=seed, out=out, scratch=folder, log=log)
    finish(metrics)


def inr(
    representation: str,
    out: Path,
    seed: int = 0,
    params: Path = PARAMS,
    section: str = SECTION,
    scratch: Path = Path(".scratch"),
) -> None:
    """Trains an implicit representation of an image, named in the section, and measures it under the delta rule.

    A training that was interrupted resumes from its checkpoint below `scratch`.
    """
    from deq_flow.inr.images import fit_image

    check(params, section)
    settings = config.load(Images, params, f"{section}.images")
    chosen = config.load(Representation, params, f"{section}.representations.{representation}")
    parameters = {"images": settings, "representation": chosen}
    digest = fingerprint(parameters, package="deq_flow")
    with (
        resumable(scratch, f"delta_inr-{representation}-{seed}", digest) as folder,
        track("delta.inr", parameters, out=out, seed=seed, scratch=folder) as log,
    ):
        metrics = fit_image(settings, chosen, seed=seed, out=out, scratch=folder, log=log)
    finish(metrics)


def delta_plot(results: Path, out: Path, params: Path = PARAMS, section: str = SECTION) -> None:
    """Draws the figures of the delta studies from the tables below `results`."""
    from deq_flow.delta_plot import figures

    check(params, section)
    dpi = config.load(int, params, f"{section}.dpi")
    tables = tables_below(results, params, section)
    with track("delta.plot", {"dpi": dpi}, out=out):
        paths = figures(tables, out=out, dpi=dpi)
    finish({"figures": len(paths)})


def delta_report(results: Path, out: Annotated[Path, REPORT], params: Path = PARAMS, section: str = SECTION) -> None:
    """Writes the report of the delta studies, means and standard deviations over seeds, to `out`."""
    from deq_flow.delta_report import report

    check(params, section)
    tables = tables_below(results, params, section)
    images = figures_below(results, "delta")
    metrics = report(tables, images, out=out)
    finish({name: value for name, value in metrics.items() if name.endswith("macs_saved")})


def tables_below(results: Path, params: Path, section: str):
    """The result folders of the studies of a profile."""
    from deq_flow.delta_tables import DeltaTables

    tables = DeltaTables.below(
        results,
        methods=config.load(tuple[config.Name, ...], params, f"{section}.methods"),
        method_seeds=config.load(tuple[config.Seed, ...], params, f"{section}.method_seeds"),
        shipped=config.load(tuple[config.Name, ...], params, f"{section}.shipped"),
        fits=tuple(config.load(dict[config.Name, Sine], params, f"{section}.sine")),
        representations=tuple(config.load(dict[config.Name, Representation], params, f"{section}.representations")),
        seeds=config.load(tuple[config.Seed, ...], params, f"{section}.seeds"),
    )
    return all_there(tables, results, "delta")


def check(params: Path, section: str) -> None:
    """Stops at any key of the section that is unknown or of a wrong type, whether the command reads it or not."""
    config.check(Delta, params, section)
