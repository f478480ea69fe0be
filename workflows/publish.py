"""Copies results of the profile mini into the documentation: `python -m workflows.publish [PIPELINE ...]`, after the
pipelines have run.

`python -m workflows.publish times` copies the times of the jobs, if all have run on one machine without other work.

Tables and findings in README.md and docs are between markers and made from docs/results/*.json, so that a test can
detect stale ones.
"""

import json
import re
import sys
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from benchmarks.core.pages import with_table

from deq_core.experiment.files import write_bytes, write_json, write_text
from deq_core.experiment.study.path_report import Unit, answers_table, convergence_table, solves_table
from deq_core.experiment.study.savings import overview, savings_table
from deq_core.experiment.study.training_costs_report import costs_table
from deq_flow.reports import curriculum, errors, gradients, reuse
from deq_flow.reports import paths as flow_paths
from deq_flow.reports.delta import settling
from deq_flow.reports.delta import sweep as delta_sweep
from deq_sequence.reports import delta as sequence_delta
from deq_sequence.reports import paths as sequence_paths
from deq_sequence.reports import perplexity
from deq_vision.reports import paths as vision_paths
from deq_vision.reports import scores, stability, streaming
from workflows import dvc_state
from workflows.engines import graph, parameters
from workflows.profile import ProfileError, edits, running
from workflows.publication import findings, times

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
REPORTS = {
    "flow": ("flow/report/table", ("epe", "iterations", "learning_curves", "example")),
    "flow_curriculum": ("flow/report/curriculum", ()),
    "flow_reuse": ("flow/report/reuse", ("starts",)),
    "flow_paths": ("flow/report/paths", ("paths",)),
    "flow_gradients": ("flow/report/gradients", ("training",)),
    "flow_training_costs": ("flow/report/training_costs", ("steps",)),
    "sequence": ("sequence/report/perplexity", ("iterations", "learning_curves", "bits_per_character")),
    "sequence_delta_report": ("sequence/report/delta", ("tradeoff",)),
    "sequence_paths": ("sequence/report/paths", ("paths",)),
    "sequence_training_costs": ("sequence/report/training_costs", ("steps",)),
    "vision": ("vision/report/scores", ("scores", "evaluations", "learning_curves")),
    "vision_streaming_report": ("vision/report/streaming", ("budgets", "frames")),
    "vision_paths": ("vision/report/paths", ("paths",)),
    "vision_training_costs": ("vision/report/training_costs", ("steps",)),
    "stability": ("stability/report", ("curves",)),
    "stability_paths": ("stability/report_paths", ("paths",)),
    "delta_sweep": ("delta/report/sweep", ("tradeoff", "activity", "maps")),
    "delta_convergence": ("delta/report/convergence", ("curves",)),
    "delta_sine": ("delta/report/sine", ("fits",)),
    "delta_inr": ("delta/report/inr", ("quality", "images")),
}
"""Folder in results and figures to show of each report, by its name in the documentation, which begins with the
pipeline."""

PROFILE = "mini"
"""The profile whose results the documentation shows."""
TIMES = "times"
"""Name in docs/results of the times of jobs."""
UNPUBLISHED = "Not published yet."
"""Text in place of a table without results."""

Table = tuple[str | tuple[str, ...], Callable[[Any], str]]
"""The source of a table, one or more files of docs/results, and the function that makes it."""


def main(pipelines: Sequence[str]) -> None:
    """Publishes metrics, figures and tables of some pipelines, by default of all."""
    require_profile()
    if list(pipelines) == [TIMES]:
        write_json(RESULTS / f"{TIMES}.json", times.measured(Path("results")))
        write_pages()
        return
    known = dict.fromkeys(name.partition("_")[0] for name in REPORTS)
    if unknown := [name for name in pipelines if name not in known]:
        raise SystemExit(f"no pipeline is called {', '.join(unknown)}; there are {', '.join(known)}")
    names = [name for name in REPORTS if name.partition("_")[0] in (pipelines or known)]
    missing = [source for name in names for source in copies(name) if not source.is_file()]
    if missing:
        raise SystemExit(
            f"{missing[0]}: expected a result to publish, but there is no such file, nor {len(missing) - 1} others; "
            "run the pipeline first, or name those that have run"
        )
    require_current(graph.rules(parameters.load()), pipelines or known)
    for name in names:
        take(name)
    write_pages()


def require_profile() -> None:
    """Exits unless params.yaml is the documentation's profile without edits."""
    try:
        own, document = running(ROOT / parameters.PARAMS)
    except (parameters.ParameterError, ProfileError) as error:
        raise SystemExit(str(error)) from None
    if document["profile"] != PROFILE or list(edits(own, document)):
        raise SystemExit(
            f"{ROOT / parameters.PARAMS}: expected the profile {PROFILE} as it is, whose results the documentation "
            "shows; `python -m workflows.profile` says which profile runs and what was edited"
        )


def require_current(rules: Sequence[graph.Rule], pipelines: Collection[str]) -> None:
    """Exits if a pipeline has not run with the current parameters."""
    writers = {path: job for rule in rules for job in rule.jobs.values() for path in job.outputs}
    waiting = [job for rule in rules if rule.pipeline in pipelines for job in rule.jobs.values()]
    behind: set[str] = set()
    while waiting:
        job = waiting.pop()
        if job.stage not in behind:
            behind.add(job.stage)
            waiting += [writers[path] for path in job.inputs if path in writers]
    try:
        changed, _ = dvc_state.changes()
    except dvc_state.StateError as error:
        raise SystemExit(str(error)) from None
    other = [
        stage
        for stage, entries in changed.items()
        if stage in behind
        and any(graph.PARAMS in entry.get("changed deps", {}) for entry in entries if not isinstance(entry, str))
    ]
    if other:
        raise SystemExit(
            f"{other[0]} and {len(other) - 1} other stages have not run with the numbers of {graph.PARAMS}: run the "
            "pipeline first"
        )


def write_pages() -> None:
    """Writes all tables and findings of the documentation from docs/results."""
    for page, found in TABLES.items():
        for name, table in found.items():
            write_text(ROOT / page, with_table((ROOT / page).read_text(), name, made(table)))


def made(table: Table) -> str:
    """A table or finding, or `UNPUBLISHED` if its results are missing."""
    sources, make = table
    sources = [sources] if isinstance(sources, str) else sources
    return make(published(*sources)) if all(map(is_published, sources)) else UNPUBLISHED


def is_published(source: str) -> bool:
    """Whether docs/results has the metrics of a report."""
    return (RESULTS / f"{source}.json").exists()


def copies(name: str) -> dict[Path, Path]:
    """The metrics and figures of a report, each with its destination in docs/results or docs/figures."""
    folder, shown = REPORTS[name]
    results, figures = ROOT / "results" / folder, ROOT / "docs" / "figures"
    of_figures = {results / f"{figure}.svg": figures / f"{name}_{figure}.svg" for figure in shown}
    return {results / "metrics.json": RESULTS / f"{name}.json", **of_figures}


def take(name: str) -> None:
    """Copies metrics and figures of a report into docs/results and docs/figures."""
    for source, place in copies(name).items():
        write_bytes(place, source.read_bytes())


def published(*sources: str) -> Any:
    """The metrics of some reports in docs/results, merged by name."""
    found: dict[str, Any] = {}
    for source in sources:
        for name, values in json.loads((RESULTS / f"{source}.json").read_text()).items():
            found[name] = {**found.get(name, {}), **values} if isinstance(values, dict) else values
    return found


def main_methods(found: errors.Errors) -> str:
    """The table of end-point errors."""
    shown = ("zero", "dis", "dis_fine", "raft", "deq")
    return errors.errors_table({name: found[name] for name in shown if name in found})


def flow_differences(found: dict[str, Any]) -> str:
    """The table of differences between DEQ-Flow and the others, with intervals."""
    return errors.differences_table(found["deq less"], "deq")


def chosen_savings(found: dict[str, Any]) -> dict[str, Any]:
    """Savings by the best rule for each set and start of flow networks, reused states first, and for images."""
    images = {name: bounds for name, bounds in found["savings"].items() if name.startswith("image, ")}
    flow = {name: bounds for name, bounds in found["savings"].items() if name not in images}
    return {**delta_sweep.chosen(flow), **images}


def main_savings(found: dict[str, Any]) -> str:
    """The table of savings on videos from reused states, and on images."""
    endings = ("video, stream", "video, reuse", "siren, seen", "fourier, seen")
    return overview({name: of for name, of in chosen_savings(found).items() if name.endswith(endings)})


def paths(source: str, unit: Unit) -> Table:
    """The tables and the figure on path independence, with networks ordered by the numbers in their names."""

    def make(found: dict[str, Any]) -> str:
        ordered = dict(sorted(found.items(), key=lambda item: [*map(int, re.findall(r"\d+", item[0]))]))
        figure = f"![Residuals and distances of answers](figures/{source}_paths.svg)"
        return "\n\n".join([answers_table(ordered, unit), convergence_table(ordered), figure])

    return source, make


def solves(source: str, unit: Unit) -> Table:
    """The table of costs and answers of trained networks' solves, by released settings and to several tolerances."""

    def make(found: dict[str, Any]) -> str:
        several = {name: sets for name, sets in found.items() if all("radius_std" in each for each in sets.values())}
        return solves_table(several, unit) or UNPUBLISHED

    return source, make


def training_costs(source: str) -> Table:
    """The cost of a training step with each gradient: findings, table and figure."""

    def make(found: dict[str, Any]) -> str:
        figure = f"![Memory and time of a step](figures/{source}_steps.svg)"
        return "\n\n".join([findings.training_costs(found), costs_table(found), figure])

    return source, make


SAVINGS, SETTLING = ("delta_sweep", "delta_inr"), ("delta_convergence", "delta_inr", "delta_sine")

TABLES: dict[str, dict[str, Table]] = {
    "README.md": {
        "flow": ("flow", main_methods),
        "vision": ("vision", lambda found: scores.overview(found, published("vision_streaming_report"))),
        "sequence": ("sequence", perplexity.table),
        "delta": (SAVINGS, main_savings),
    },
    "docs/deq-flow.md": {
        "findings": ("flow", findings.flow),
        "differences": ("flow", flow_differences),
        "curriculum": ("flow_curriculum", curriculum.table),
        "curriculum-findings": ("flow_curriculum", findings.curriculum),
        "reuse": ("flow_reuse", reuse.table),
        "reuse-findings": ("flow_reuse", findings.reuse),
        "gradients": ("flow_gradients", gradients.table),
        "gradients-findings": ("flow_gradients", findings.gradients),
    },
    "docs/delta.md": {
        "savings": (SAVINGS, lambda found: savings_table(chosen_savings(found))),
        "findings": (SAVINGS, findings.delta),
        "settling": (SETTLING, lambda found: settling.settling_table(found["settling"])),
    },
    "docs/deq-vision.md": {
        **{
            name: ("vision", lambda found, name=name: scores.score_table(found[name]))
            for name in ("digits", "street", "detect")
        },
        "stability": ("stability", stability.overview),
        "stability-findings": ("stability", findings.stability),
    },
    "docs/streaming.md": {
        **{
            f"{name}-videos": ("vision_streaming_report", lambda found, name=name: streaming.stream_table(found[name]))
            for name in ("street", "detect")
        },
        "findings": ("vision_streaming_report", findings.streaming),
    },
    "docs/convergence.md": {
        "flow": paths("flow_paths", flow_paths.UNIT),
        "vision": paths("vision_paths", vision_paths.UNIT),
        "stability": paths("stability_paths", vision_paths.UNIT),
        "sequence": paths("sequence_paths", sequence_paths.UNIT),
        "flow-solves": solves("flow_paths", flow_paths.UNIT),
        "vision-solves": solves("vision_paths", vision_paths.UNIT),
        "sequence-solves": solves("sequence_paths", sequence_paths.UNIT),
    },
    "docs/choosing-a-gradient.md": {
        f"{name}-costs": training_costs(f"{name}_training_costs") for name in ("flow", "vision", "sequence")
    },
    "docs/reproducibility.md": {"times": (TIMES, times.table)},
    "docs/sequence.md": {
        "findings": ("sequence", findings.sequence),
        "sweeps": ("sequence", perplexity.sweep_table),
        "savings": ("sequence_delta_report", lambda found: sequence_delta.chosen_table(found["savings"])),
    },
}
"""Tables by page, and by the name in their markers."""


if __name__ == "__main__":
    main(sys.argv[1:])
