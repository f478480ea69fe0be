"""The import contracts of pyproject.toml break on planted violations; `make lint` says that they hold without."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLANTED = [
    ("deq_core._solve.stop", "numpy", "the solvers need torch alone"),
    ("deq_core._solve.norms", "deq_core.experiment", "the solvers do not know experiments"),
    ("deq_core.experiment.tables", "mlflow", "each of these libraries is imported"),
    ("deq_vision", "deq_flow", "domains do not know each other"),
    ("deq_flow.data.io", "deq_flow.models", "data and models do not know each other"),
    ("deq_flow.evaluation.evaluate", "deq_flow.cli", "commands on top"),
]
"""A module, what it must not import, and the contract that says so."""


def test_planted_imports_break_their_contracts(tmp_path: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    sources = {}
    for source in ROOT.glob("packages/*/src/deq_*/__init__.py"):
        package = source.parent.relative_to(ROOT)
        shutil.copytree(source.parent, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
        sources[package.name] = tmp_path / package.parent
    for module, imported, _ in PLANTED:
        path = sources[module.partition(".")[0]] / module.replace(".", "/")
        with (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).open("a") as file:
            file.write(f"\nimport {imported}\n")
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sources.values()))},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
    for module, imported, contract in PLANTED:
        assert re.search(rf"{contract}.* BROKEN", done.stdout), done.stdout
        assert re.search(rf"\b{module} -> {imported} \(l\.", done.stdout), done.stdout
