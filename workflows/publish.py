"""Copies results into the documentation: `python -m workflows.publish [PIPELINE ...]`, after the pipelines have run.

Tables in README.md stand between markers and are made from docs/results/*.json, so a test can tell a stale one.
"""

import json
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.core.pages import with_table

from deq_flow import report as flow
from deq_sequence import report as sequence

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
FIGURES = {
    "flow": ("epe", "iterations", "learning_curves", "example"),
    "sequence": ("iterations", "learning_curves", "bits_per_character"),
}
"""Figures of each pipeline that the documentation shows."""


def main(pipelines: Sequence[str]) -> None:
    """Takes over results of pipelines: their metrics, their figures, and with them the tables of README.md."""
    (DOCS / "results").mkdir(parents=True, exist_ok=True)
    (DOCS / "figures").mkdir(parents=True, exist_ok=True)
    readme = ROOT / "README.md"
    for name in pipelines:
        results = ROOT / "results" / name
        shutil.copyfile(results / "metrics.json", DOCS / "results" / f"{name}.json")
        for figure in FIGURES[name]:
            shutil.copyfile(results / "figures" / f"{figure}.svg", DOCS / "figures" / f"{name}_{figure}.svg")
        readme.write_text(with_table(readme.read_text(), name, TABLES[name](DOCS / "results" / f"{name}.json")))


def flow_table(path: Path) -> str:
    """The table of end-point errors, and each method's error against zero flow's."""
    metrics: flow.Metrics = json.loads(path.read_text())
    return flow.table({name: metrics[name] for name in ("zero", "dis", "dis_fine", "raft", "deq") if name in metrics})


def sequence_table(path: Path) -> str:
    """The table of perplexities."""
    return sequence.table(json.loads(path.read_text()))


TABLES: dict[str, Callable[[Path], str]] = {"flow": flow_table, "sequence": sequence_table}

if __name__ == "__main__":
    main(sys.argv[1:] or list(TABLES))
