"""Copies results into the documentation: `python -m workflows.publish [PIPELINE ...]`, after the pipelines have run.

Tables and findings of README.md and docs stand between markers, made from docs/results/*.json, so that a test can tell
a stale one.
"""

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.core.pages import with_table

from deq_core.experiment.files import write_json, write_text
from deq_flow import delta_report, tables
from deq_flow import report as flow
from deq_flow.commands.pipeline import SECTION, tables_below
from deq_sequence.reports import delta as sequence_delta
from deq_sequence.reports import perplexity
from deq_vision import report as vision
from deq_vision.reports import stability
from workflows import findings

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
FIGURES = {
    "flow": ("epe", "iterations", "learning_curves", "example", "reuse"),
    "sequence": ("iterations", "learning_curves", "bits_per_character"),
    "sequence/delta_report": ("tradeoff",),  # the figure lies beside the report
    "vision": ("scores", "evaluations", "stream", "stream_frames", "learning_curves"),
    "stability": ("curves",),
    "delta": ("flow_tradeoff", "flow_activity", "flow_maps", "flow_convergence", "sine", "inr", "inr_images"),
}
"""Figures that the documentation shows, by the folder of results that a report wrote."""


def main(pipelines: Sequence[str]) -> None:
    """Takes over the results of some pipelines, by default of all: their metrics, figures and tables."""
    unknown = [name for name in pipelines if name not in FIGURES]
    if unknown:
        raise SystemExit(f"no pipeline is called {', '.join(unknown)}; there are {', '.join(FIGURES)}")
    for name in pipelines or FIGURES:
        take(name)
    write_pages()


def write_pages() -> None:
    """Makes every table and finding of the documentation from docs/results."""
    for page, found in TABLES.items():
        for name, (source, make) in found.items():
            write_text(ROOT / page, with_table((ROOT / page).read_text(), name, make(published(source))))


def take(pipeline: str) -> None:
    """Metrics and figures of a pipeline, into docs/results and docs/figures."""
    results, figures = ROOT / "results" / pipeline, ROOT / "docs" / "figures"
    results = results / "report" if (results / "report").is_dir() else results
    drawn = results / "figures" if (results / "figures").is_dir() else results
    name_of = pipeline.replace("/", "_")
    RESULTS.mkdir(parents=True, exist_ok=True)
    figures.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(results / "metrics.json", RESULTS / f"{name_of}.json")
    for name in FIGURES[pipeline]:
        shutil.copyfile(drawn / f"{name}.svg", figures / f"{name_of}_{name}.svg")
    if pipeline == "flow":  # its metrics.json is of the main study
        found = tables_below(results, ROOT / "params.yaml", SECTION)
        write_json(RESULTS / "flow_reuse.json", flow.reuse_metrics(found))
        write_json(RESULTS / "flow_curriculum.json", flow.metrics(tables.samples_by_stage(found)))


def published(source: str) -> Any:
    """What docs/results holds of a study."""
    return json.loads((RESULTS / f"{source}.json").read_text())


def main_methods(found: flow.Metrics) -> str:
    """The table of end-point errors."""
    return flow.table({name: found[name] for name in ("zero", "dis", "dis_fine", "raft", "deq") if name in found})


def curriculum(found: flow.Metrics) -> str:
    """The table of end-point errors after each stage, in the order of training."""
    order = ("chairs", "things", "sintel", "kitti")
    return flow.table({name: found[name] for name in sorted(found, key=lambda name: order.index(name.split(", ")[1]))})


def main_savings(found: dict[str, Any]) -> str:
    """What the release's rule saves on pairs and on images, and ours on videos with memories that are kept."""
    endings = ("sintel_clean, km, cold", "video, km sent, stream", "siren, seen", "fourier, seen")
    return delta_report.savings_table(found["savings"], [name for name in found["savings"] if name.endswith(endings)])


Table = tuple[str, Callable[[Any], str]]
"""The file of docs/results that it is made from, and how."""

TABLES: dict[str, dict[str, Table]] = {
    "README.md": {
        "flow": ("flow", main_methods),
        "vision": ("vision", vision.overview),
        "sequence": ("sequence", perplexity.table),
        "delta": ("delta", main_savings),
    },
    "docs/deq-flow.md": {
        "findings": ("flow", findings.flow),
        "curriculum": ("flow_curriculum", curriculum),
        "curriculum-findings": ("flow_curriculum", findings.curriculum),
        "reuse": ("flow_reuse", flow.reuse_table),
        "reuse-findings": ("flow_reuse", findings.reuse),
    },
    "docs/delta.md": {
        "savings": ("delta", lambda found: delta_report.savings_table(found["savings"])),
        "findings": ("delta", findings.delta),
        "settling": ("delta", lambda found: delta_report.settling_table(found["settling"])),
    },
    "docs/deq-vision.md": {
        **{
            name: ("vision", lambda found, name=name: vision.score_table(found["scores"][name]))
            for name in ("digits", "street", "detect")
        },
        "stability": ("stability", stability.overview),
        "stability-findings": ("stability", findings.stability),
    },
    "docs/streaming.md": {
        **{
            f"{name}-videos": ("vision", lambda found, name=name: vision.stream_table(found["stream"][name]))
            for name in ("street", "detect")
        },
        "findings": ("vision", findings.streaming),
    },
    "docs/sequence.md": {
        "findings": ("sequence", findings.sequence),
        "sweeps": ("sequence", perplexity.sweep_table),
        "savings": ("sequence_delta_report", lambda found: sequence_delta.savings_table(found["savings"])),
    },
}
"""By page, and by the name between its markers."""


if __name__ == "__main__":
    main(sys.argv[1:])
