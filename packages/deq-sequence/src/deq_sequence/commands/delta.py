"""The commands of the delta study: what of a solve can be skipped at which perplexity."""

from pathlib import Path

from deq_core.experiment import config
from deq_core.experiment.commands import PARAMS, finish
from deq_core.experiment.study.stages import all_there
from deq_core.experiment.tracking.run import track
from deq_sequence.data.corpora import Split
from deq_sequence.delta_params import Delta
from deq_sequence.params import Plot, Sequence

SECTION = "sequence"


def delta(
    method: str,
    model: Path,
    data: Path,
    out: Path,
    split: Split = "test",
    params: Path = PARAMS,
    section: str = SECTION,
) -> None:
    """Measures the trained model in the folder `model` under the delta rule: perplexity against the work left.

    Thresholds and solvers are those of the section's `delta`, under the name of the method. Writes sweep.csv, a row a
    way of solving, layers.csv, evaluations.csv and metrics.json to `out`.
    """
    from deq_sequence.delta import evaluate_delta

    config.check(Sequence, params, section)
    settings = config.load(Delta, params, f"{section}.delta.{method}")
    with track("sequence.delta", settings, out=out, parent_of=model / "model.safetensors") as log:
        finish(evaluate_delta(model, settings, data=data, out=out, log=log, split=split))


def delta_report(results: Path, out: Path, params: Path = PARAMS, section: str = SECTION) -> None:
    """Writes report.md, its figure and metrics.json of the delta study, means over seeds, to `out`.

    `results` has what `delta` wrote, in a folder for each method of the section's `delta` and each seed.
    """
    from deq_sequence.delta_report import report

    config.check(Sequence, params, section)
    settings = config.load(Plot, params, f"{section}.plot")
    methods = config.load(dict[config.Name, Delta], params, f"{section}.delta")
    seeds = config.load(tuple[config.Seed, ...], params, f"{section}.seeds")
    studies = {method: [results / f"{method}-{seed}" for seed in seeds] for method in methods}
    all_there(studies, results, "sequence")
    with track("sequence.delta_report", settings, out=out):
        metrics = report(studies, out=out, dpi=settings.dpi)
    finish({name: value for name, value in metrics["means"].items() if name.endswith(".perplexity")})
