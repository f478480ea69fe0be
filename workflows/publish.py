"""Copies results into the documentation: `python -m workflows.publish`, after the pipelines have run.

Tables in README.md stand between markers and are made from docs/results/*.json, so a test can tell a stale one.
"""

import json
import shutil
from pathlib import Path

from benchmarks.core.pages import with_table

from deq_flow.report import Metrics, table

ROOT = Path(__file__).parents[1]
FIGURES = ("epe.svg", "iterations.svg", "learning_curves.svg", "example.svg")


def main() -> None:
    """Takes over results/flow: its metrics, its figures, and with them the tables of README.md."""
    results, docs = ROOT / "results" / "flow", ROOT / "docs"
    (docs / "results").mkdir(parents=True, exist_ok=True)
    (docs / "figures").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(results / "metrics.json", docs / "results" / "flow.json")
    for name in FIGURES:
        shutil.copyfile(results / "figures" / name, docs / "figures" / f"flow_{name}")
    readme = ROOT / "README.md"
    readme.write_text(with_table(readme.read_text(), "flow", flow_table(docs / "results" / "flow.json")))


def flow_table(path: Path) -> str:
    """The table of end-point errors, and each method's error against zero flow's."""
    metrics: Metrics = json.loads(path.read_text())
    return table({name: metrics[name] for name in ("zero", "dis", "dis_fine", "raft", "deq") if name in metrics})


if __name__ == "__main__":
    main()
